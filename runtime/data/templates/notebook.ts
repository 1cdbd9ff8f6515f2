import { defineOptions } from "../../../core/options/options.ts";
import { defineTemplate, type TemplatePart } from "../../../core/plugin/template.ts";

/** What the seed notebook writes: the heads that the arena format has by itself; a text as it is. */
export const notebookTemplate = defineTemplate({
  name: "notebook",
  options: defineOptions({}),
  create: () => ({
    parts: (row): TemplatePart[] => {
      if (row.fields.includes("text")) return [{ head: "", text: row.text("text"), field: "prompt" }];
      return [
        { head: "<prompt>: ", text: row.text("prompt"), field: "prompt" },
        { head: "\n\n<response_a>: ", text: row.text("response_a"), field: "response_a" },
        { head: "\n\n<response_b>: ", text: row.text("response_b"), field: "response_b" },
      ];
    },
  }),
});
