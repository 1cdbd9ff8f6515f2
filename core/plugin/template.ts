/** The template: how a row becomes the text that is tokenized, and `defineTemplate`, which declares one. */
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** One turn of a conversation; `role` where the file says whose it is. */
export type Turn = { readonly role?: string; readonly text: string };

/** Parts of a row that truncation budgets tell apart; of a row with one text, that is its prompt. */
export type TemplateField = "prompt" | "response_a" | "response_b";

/** A row as a template sees it. */
export interface TemplateRow {
  readonly id: string;
  /** Names of the row's own fields: prompt, response_a and response_b, or text. */
  readonly fields: readonly string[];
  /** A field, or another column of the file, as text. @throws DataError naming what the row has */
  text(name: string): string;
  /** Turns of a field; one where the file has a plain text. @throws DataError */
  turns(name: string): readonly Turn[];
}

/** A piece of the text. What budgets cut is `text` with its head, from the end; `tail` stays as long as something of it is left. */
export interface TemplatePart {
  readonly head: string;
  readonly text: string;
  readonly tail?: string | undefined;
  /** Whose share of the tokens it takes; undefined: it is kept whole. */
  readonly field?: TemplateField | undefined;
}

/** A message of a chat. */
export type ChatMessage = { readonly role: string; readonly content: string };

/** What a template gets. */
export interface TemplateContext {
  /**
   * Renders messages by the chat template of the model's tokenizer, special tokens included.
   * @throws ModelError where the tokenizer has none
   */
  renderChat(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string;
}

/** Makes texts of rows. */
export interface Template {
  /** Pieces of the row's text, in order; they must depend on nothing else. */
  parts(row: TemplateRow): readonly TemplatePart[];
}

/** A configured template, as a config holds it. */
export type TemplatePlugin = Plugin<"template", readonly [TemplateContext], Template>;

/**
 * Declares a template, the value of a config's `template`, which stands in place of `data.template`.
 * @example
 * export const question = defineTemplate({
 *   name: "question",
 *   options: defineOptions({ ask: option("string", { default: "Which is better?", help: "the last line" }) }),
 *   create: ({ ask }) => ({
 *     parts: (row) => [
 *       { head: "Prompt: ", text: row.text("prompt"), field: "prompt" },
 *       { head: "\nA: ", text: row.text("response_a"), field: "response_a" },
 *       { head: "\nB: ", text: row.text("response_b"), tail: `\n${ask}`, field: "response_b" },
 *     ],
 *   }),
 * });
 */
export function defineTemplate<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [TemplateContext], Template>,
): TypedPluginFactory<"template", S, readonly [TemplateContext], Template> {
  return definePlugin("template", definition, { complete: completeTemplate });
}

const TEMPLATE: Parts<Template> = { parts: "function" };

/** @throws PluginError */
const completeTemplate = (name: string, made: Template): Template =>
  complete(made, TEMPLATE, { kind: "template", name, method: "create" });
