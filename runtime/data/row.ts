/** What a row of any format is tokenized from. */
import type { BaseRow } from "../../core/plugin/data-format.ts";
import { formatOf } from "./formats/index.ts";
import type { RowText } from "./truncation.ts";

/** What the row's ids are made of: a text, the fields of a comparison with their heads, or ids made elsewhere. */
export function contentOf(row: BaseRow): RowText | Uint32Array {
  const format = formatOf(row);
  const fields = format.fields(row);
  if (typeof fields === "string" || fields instanceof Uint32Array) return fields;
  const field = (index: 0 | 1 | 2) => ({ head: format.fieldHeads?.[index] ?? "", body: fields[index] });
  return [field(0), field(1), field(2)];
}

/** Whether the row's ids are still to be made. */
export function isText(row: BaseRow): boolean {
  return !(formatOf(row).fields(row) instanceof Uint32Array);
}

/** The text that is tokenized for a row, its fields joined. @throws RangeError for ids made elsewhere */
export function rowText(row: BaseRow): string {
  const content = contentOf(row);
  if (content instanceof Uint32Array) throw new RangeError("the row has ids, no text");
  return typeof content === "string" ? content : content.map(({ head, body }) => head + body).join("");
}
