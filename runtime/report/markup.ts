/** Markup with escaping by construction: what is put into a template is escaped unless it is markup itself. */

/** Markup that is safe to put into a page. */
export interface Markup {
  readonly kind: "markup";
  readonly text: string;
}

/** What a template takes; `undefined` and `false` leave nothing. */
export type Content = Markup | string | number | undefined | false | readonly Content[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text that is safe between tags and inside quoted attributes. */
export function escapeText(text: string): string {
  // XML and HTML both forbid most control characters; a lone surrogate cannot be written as UTF-8.
  return text
    .toWellFormed()
    .replace(/(?![\t\n\r])\p{Cc}/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

/** Markup that stands as it is written; for text of ours only. */
export function trusted(text: string): Markup {
  return { kind: "markup", text };
}

/** A template of markup; values are escaped, lists are joined. @example markup`<p title="${"<&>"}">${["a", "b"]}</p>` */
export function markup(strings: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return trusted(strings.reduce((text, piece, i) => text + show(values[i - 1]) + piece));
}

/** JSON for a `<script type="application/json">`, which must not hold `</script` nor `<!--`. */
export function jsonScript(value: unknown): Markup {
  return trusted(JSON.stringify(value).replaceAll("<", "\\u003c"));
}

function show(value: Content): string {
  if (value === undefined || value === false) return "";
  if (typeof value === "string") return escapeText(value);
  if (typeof value === "number") return String(value);
  return "kind" in value ? value.text : value.map(show).join("");
}
