/** A row of data before tokenizing, with the place it came from. */
import type { RowText, TextField } from "./truncation.ts";

type RowOrigin = {
  /** The file's own `id`, or the row's position after concatenation where it has none. */
  readonly id: string;
  readonly file: string;
  /** 1-based line of the row's first line in `file`. */
  readonly line: number;
  /** Class index; undefined in prediction files. */
  readonly label: number | undefined;
  /** Probability of each class, where the file gives them to train on. */
  readonly soft?: readonly number[] | undefined;
};

/** A text to classify. */
export type TextRow = RowOrigin & { readonly kind: "text"; readonly text: string };

/** A prompt and two answers, kept apart so that they can be cut or swapped before they are joined. */
export type ArenaRow = RowOrigin & {
  readonly kind: "arena";
  readonly prompt: string;
  readonly responseA: string;
  readonly responseB: string;
};

/** Token ids made elsewhere; taken as they are, without added specials. */
export type TokenRow = RowOrigin & { readonly kind: "ids"; readonly inputIds: Uint32Array };

/** A row of data: a text, an arena comparison, or token ids. */
export type DataRow = TextRow | ArenaRow | TokenRow;

/** Whether the row's ids are still to be made. */
export function isText(row: DataRow): row is TextRow | ArenaRow {
  return row.kind !== "ids";
}

/** What `row` is tokenized from: a text, or an arena row's fields by the seed notebook's template. */
export function rowFields(row: TextRow | ArenaRow): RowText {
  if (row.kind === "text") return row.text;
  return [
    { head: "<prompt>: ", body: row.prompt },
    { head: "\n\n<response_a>: ", body: row.responseA },
    { head: "\n\n<response_b>: ", body: row.responseB },
  ];
}

/** The text that is tokenized for `row`; an arena row is joined by the seed notebook's template. */
export function rowText(row: TextRow | ArenaRow): string {
  if (row.kind === "text") return row.text;
  return (rowFields(row) as readonly TextField[]).map(({ head, body }) => head + body).join("");
}
