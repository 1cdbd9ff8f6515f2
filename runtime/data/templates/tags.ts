import { defineOptions } from "../../../core/options/options.ts";
import { defineTemplate, type TemplateField, type TemplatePart, type Turn } from "../../../core/plugin/template.ts";

/** A turn between tags that number it: `<response_a_2>...</response_a_2>`; another's than the field's own speaker with its role. */
function part(name: string, turn: Turn, i: number): TemplatePart {
  const speaker = name === "prompt" ? "user" : "assistant";
  const role = turn.role === undefined || turn.role === speaker ? "" : ` role="${turn.role}"`;
  const field = name === "text" ? "prompt" : (name as TemplateField);
  return { head: `<${name}_${i + 1}${role}>`, text: turn.text, tail: `</${name}_${i + 1}>\n`, field };
}

/** Every turn between tags of its own, round by round: the first turn of prompt and both responses, then the second. */
export const tagsTemplate = defineTemplate({
  name: "tags",
  options: defineOptions({}),
  create: () => ({
    parts: (row) => {
      const turns = row.fields.map((name) => row.turns(name));
      const rounds = Math.max(...turns.map((list) => list.length));
      return Array.from({ length: rounds }, (_, i) =>
        row.fields.flatMap((name, f) => (turns[f]![i] === undefined ? [] : [part(name, turns[f]![i], i)])),
      ).flat();
    },
  }),
});
