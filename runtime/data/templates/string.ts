/** A template that is a text with names of fields in braces: `Prompt: {prompt}\nA: {response_a}\nB: {response_b}`. */
import { defineOptions, option } from "../../../core/options/options.ts";
import { defineTemplate, type TemplateField, type TemplatePart } from "../../../core/plugin/template.ts";

/** Fields that budgets cut; a text to classify is cut as a prompt is. */
const BUDGETED: Readonly<Record<string, TemplateField>> = {
  prompt: "prompt",
  text: "prompt",
  response_a: "response_a",
  response_b: "response_b",
};

type Piece = { readonly head: string; readonly field: string };

/** A template read: fields with what stands before each, and what stands after the last. */
export interface StringTemplate {
  readonly pieces: readonly Piece[];
  readonly tail: string;
}

const ESCAPES: Readonly<Record<string, string>> = { "\\n": "\n", "\\t": "\t", "\\\\": "\\", "{{": "{", "}}": "}" };

/** Reads a template; `\n`, `\t` and `\\` are what they are elsewhere, `{{` and `}}` are braces. A problem where it is none. */
export function parseTemplate(text: string): StringTemplate | { readonly problem: string } {
  const pieces: Piece[] = [];
  let literal = "";
  for (const [token] of text.matchAll(/\\[nt\\]|\{\{|\}\}|\{[^{}]*\}|[\s\S]/g)) {
    if (token.length > 1 && ESCAPES[token] === undefined && token.startsWith("{")) {
      const field = token.slice(1, -1).trim();
      if (!/^[\w .-]+$/.test(field)) return { problem: `${JSON.stringify(token)} names no field` };
      pieces.push({ head: literal, field });
      literal = "";
    } else if (token === "{" || token === "}")
      return { problem: `a ${token} without its other brace; write ${token}${token} for one` };
    else literal += ESCAPES[token] ?? token;
  }
  return pieces.length === 0 ? { problem: "it names no field, such as {prompt} or {text}" } : { pieces, tail: literal };
}

/** Makes texts by a string with named fields. */
export const stringTemplate = defineTemplate({
  name: "string",
  options: defineOptions(
    { text: option("string", { help: "the text, with names of fields and columns in braces" }) },
    ({ text }) => {
      const read = parseTemplate(text);
      return "problem" in read ? [`text: got ${JSON.stringify(text)}: ${read.problem}`] : [];
    },
  ),
  create: ({ text }) => {
    const { pieces, tail } = parseTemplate(text) as StringTemplate;
    return {
      parts: (row): TemplatePart[] =>
        pieces.map(({ head, field }, i) => ({
          head,
          text: row.text(field),
          tail: i === pieces.length - 1 ? tail : "",
          field: BUDGETED[field],
        })),
    };
  },
});
