/** A pasted row as the run's template writes it. */
import type { RowText } from "../runtime/data/truncation.ts";
import type { RowTexts, SiteManifest } from "./manifest.ts";

/** What stands in the content where a field's text goes: nobody pastes it, for its ends are private characters. */
export const placeholderOf = (name: string): string => `\u{e000}${name}\u{e001}`;
const PLACEHOLDER = /\u{e000}(\w+)\u{e001}/gu;

/** What is tokenized: the manifest's content with the texts in their places. Lone surrogates are no text, as in data files. */
export function contentFor({ fields, content }: Pick<SiteManifest, "fields" | "content">, texts: RowTexts): RowText {
  const known = new Set(fields.map(({ name }) => name));
  const fill = (value: unknown): unknown => {
    if (typeof value === "string")
      return value.replaceAll(PLACEHOLDER, (found, name: string) =>
        known.has(name) ? (texts[name] ?? "").toWellFormed() : found,
      );
    if (Array.isArray(value)) return value.map(fill);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, own]) => [key, fill(own)]));
  };
  return fill(content) as RowText;
}

/** The same texts with the two answers, the last fields, exchanged. */
export function exchanged({ fields }: Pick<SiteManifest, "fields">, texts: RowTexts): RowTexts {
  const [a, b] = fields.slice(-2).map(({ name }) => name) as [string, string];
  return { ...texts, [a]: texts[b] ?? "", [b]: texts[a] ?? "" };
}
