/** What a row of any format is tokenized from. */
import { DataError } from "../../core/errors.ts";
import type { BaseRow } from "../../core/plugin/data-format.ts";
import type { Template, TemplateRow, Turn } from "../../core/plugin/template.ts";
import { formatOf } from "./formats/index.ts";
import type { RowText, TextField } from "./truncation.ts";

/** The names of a comparison's fields, which a template goes by. */
const COMPARED = ["prompt", "response_a", "response_b"] as const;

/** What the row's ids are made of: a text, the parts of one, or ids made elsewhere. @throws DataError where a template does not fit */
export function contentOf(row: BaseRow, template?: Template): RowText | Uint32Array {
  const format = formatOf(row);
  const fields = format.fields(row);
  if (fields instanceof Uint32Array) return fields;
  if (template !== undefined) return template.parts(templateRow(row, fields)).map(partOf);
  if (typeof fields === "string") return fields;
  return fields.map((body, index) => ({ head: format.fieldHeads?.[index] ?? "", body, tail: "", field: index }));
}

function partOf({ head, text, tail = "", field }: ReturnType<Template["parts"]>[number]): TextField {
  return { head, body: text, tail, field: field === undefined ? undefined : COMPARED.indexOf(field) };
}

function templateRow(row: BaseRow, fields: string | readonly string[]): TemplateRow {
  const [names, values] = typeof fields === "string" ? [["text"], [fields]] : [COMPARED, fields];
  const text = (name: string): string => {
    const at = (names as readonly string[]).indexOf(name);
    if (at >= 0) return values[at]!;
    const { extra = {} } = row;
    if (Object.hasOwn(extra, name)) return textOf(extra[name]);
    const has = [...names, ...Object.keys(extra)].join(", ");
    throw new DataError("TEMPLATE_FIELD", `the template names {${name}}, the row has ${has}`, row, {
      hint: "Name the row's fields or other columns of the file.",
    });
  };
  return {
    id: row.id,
    fields: names,
    text,
    turns: (name) => turnsOf(row, name) ?? [{ text: text(name) }],
  };
}

/** A column's value as text: lists and objects as JSON. */
export function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  return typeof value === "bigint" ? value.toString() : JSON.stringify(value);
}

/** The turns that arena rows and texts keep. */
function turnsOf(row: BaseRow, name: string): readonly Turn[] | undefined {
  const { turns } = row as { readonly turns?: unknown };
  if (Array.isArray(turns)) return name === "text" ? (turns as readonly Turn[]) : undefined;
  const key = { prompt: "prompt", response_a: "responseA", response_b: "responseB" }[name];
  const own = key === undefined ? undefined : (turns as Readonly<Record<string, readonly Turn[]>> | undefined)?.[key];
  return own?.length === 0 ? undefined : own;
}

/** Whether the row's ids are still to be made. */
export function isText(row: BaseRow): boolean {
  return !(formatOf(row).fields(row) instanceof Uint32Array);
}

/** The text that is tokenized for a row, its parts joined. @throws RangeError for ids made elsewhere */
export function rowText(row: BaseRow, template?: Template): string {
  const content = contentOf(row, template);
  if (content instanceof Uint32Array) throw new RangeError("the row has ids, no text");
  return typeof content === "string" ? content : content.map(({ head, body, tail }) => head + body + tail).join("");
}
