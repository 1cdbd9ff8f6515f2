/** What two datasets have in common, as hashes. */
import { createHash } from "node:crypto";
import type { Dataset } from "./dataset.ts";
import type { Template } from "../../core/plugin/template.ts";
import { type DataRow, formatOf } from "./formats/index.ts";
import { contentOf } from "./row.ts";

/** Two sha256 (hex): of what is tokenized, and of all that training sees. */
export type DatasetDigest = { readonly contents: string; readonly all: string };

/** Texts that make a row's ids: its fields, or all that a template makes of it. */
function textsOf(row: DataRow, template: Template | undefined): readonly string[] {
  const content = template === undefined ? formatOf(row).fields(row) : contentOf(row, template);
  if (typeof content === "string") return [content];
  if (content instanceof Uint32Array) return [];
  return content.flatMap((part) =>
    typeof part === "string" ? [part] : [part.head, part.body, part.tail, String(part.field)],
  );
}

/** Digests of the rows in order: `contents` of their texts or input_ids, `all` of ids and labels as well. */
export function digestDataset(dataset: Dataset): DatasetDigest {
  const hash = createHash("sha256");
  for (const row of dataset.rows) {
    // Every part is preceded by its length, so that no two datasets feed the same bytes.
    const content = formatOf(row).fields(row);
    const ids = content instanceof Uint32Array ? content : undefined;
    const fields = ids === undefined ? textsOf(row, dataset.template) : [];
    hash.update(`${row.kind},${ids?.length ?? fields.map((field) => field.length).join(",")},`);
    for (const field of fields) hash.update(field);
    if (ids !== undefined) hash.update(ids);
  }
  const contents = hash.digest("hex");
  const all = createHash("sha256").update(contents);
  if (dataset.labelNames !== undefined) all.update(JSON.stringify(dataset.labelNames));
  for (const { id, label, soft, values } of dataset.rows) {
    all.update(`${label ?? ""},${id.length},${id}${soft === undefined ? "" : `,${soft.join(" ")}`}`);
    if (values !== undefined) all.update(`,values ${values.join(" ")}`);
  }
  return { contents, all: all.digest("hex") };
}

/** sha256 (hex) over ids, contents, labels and order: two datasets with one fingerprint train the same. */
export function fingerprintDataset(dataset: Dataset): string {
  return digestDataset(dataset).all;
}
