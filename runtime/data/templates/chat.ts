/** The chat template of the model's tokenizer: a comparison is one message of the user, a text that is a chat is that chat. */
import { defineOptions } from "../../../core/options/options.ts";
import {
  type ChatMessage,
  defineTemplate,
  type Template,
  type TemplateContext,
  type TemplateField,
  type TemplatePart,
  type TemplateRow,
} from "../../../core/plugin/template.ts";

/** A content that no text holds, in place of the one of number `i`. */
const mark = (i: number): string => `\u{f0000}${i}\u{f0001}`;
const MARKS = /\u{f0000}(\d+)\u{f0001}/u;

/** Contents in order, and the messages that they make. */
interface Chat {
  readonly contents: readonly { readonly text: string; readonly field: TemplateField }[];
  readonly messages: (contents: readonly string[]) => readonly ChatMessage[];
  readonly addGenerationPrompt: boolean;
}

function chatOf(row: TemplateRow): Chat {
  if (!row.fields.includes("text")) {
    const fields = ["prompt", "response_a", "response_b"] as const;
    return {
      contents: row.fields.map((name, i) => ({ text: row.text(name), field: fields[i]! })),
      // The seed notebook's text.
      messages: ([prompt, a, b]) => [
        { role: "user", content: `<prompt>: ${prompt}\n\n<response_a>: ${a}\n\n<response_b>: ${b}` },
      ],
      addGenerationPrompt: true,
    };
  }
  const turns = row.turns("text");
  const roles = turns.map(({ role }, i) => role ?? (i % 2 === 0 ? "user" : "assistant"));
  return {
    contents: turns.map(({ text }) => ({ text, field: "prompt" })),
    messages: (contents) => contents.map((content, i) => ({ role: roles[i]!, content })),
    addGenerationPrompt: false,
  };
}

function render(context: TemplateContext, row: TemplateRow): readonly TemplatePart[] {
  const { contents, messages, addGenerationPrompt } = chatOf(row);
  const whole = context.renderChat(messages(contents.map(({ text }) => text)), addGenerationPrompt);
  const pieces = context.renderChat(messages(contents.map((_, i) => mark(i))), addGenerationPrompt).split(MARKS);
  // Text, number of a content, text, ...: some templates leave messages out, or move them.
  const order = pieces.flatMap((piece, at) => (at % 2 === 1 ? [Number(piece)] : []));
  const inOrder = order.length === contents.length && order.every((number, i) => number === i);
  const partsWith = (clean: (text: string, last: boolean) => string): TemplatePart[] =>
    contents.map(({ text, field }, i) => ({
      head: pieces[2 * i]!,
      text: clean(text, i === contents.length - 1),
      tail: i === contents.length - 1 ? pieces.at(-1)! : "",
      field,
    }));
  // Most templates strip contents of white space around them.
  const cleanings = [
    (text: string) => text,
    (text: string, last: boolean) => (addGenerationPrompt ? (last ? text.trimEnd() : text) : text.trim()),
  ];
  for (const clean of inOrder ? cleanings : []) {
    const parts = partsWith(clean);
    if (parts.map(({ head, text, tail }) => head + text + tail).join("") === whole) return parts;
  }
  return [{ head: "", text: whole, field: "prompt" }];
}

/** Texts as the tokenizer's chat template has them. */
export const chatTemplate = defineTemplate({
  name: "chat",
  options: defineOptions({}),
  create: (_options, context): Template => ({ parts: (row) => render(context, row) }),
});
