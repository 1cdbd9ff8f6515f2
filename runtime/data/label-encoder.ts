/** Labels that are names become class indices, and the names are kept (id2label). */
import { DataError } from "../../core/errors.ts";
import type { ReadRow } from "../../core/plugin/data-format.ts";
import type { DataRow } from "./formats/index.ts";

/** Classes by their names, from 0 on; "numbers" where labels are indices and have no names. */
export type ClassNames = readonly string[] | "numbers";

/** More names than this are no classes but texts or measures that got into the column. */
const MAX_NAMES = 1000;

/**
 * Rows with a number for each label. Names are sorted, as numbers where all of them are.
 * @param given classes of the data trained on; undefined: these rows are what defines them
 * @throws DataError for a label that is none of the classes given
 */
export function nameClasses(
  rows: readonly ReadRow<DataRow>[],
  given: ClassNames | undefined,
): { readonly rows: readonly DataRow[]; readonly labelNames: readonly string[] | undefined } {
  if (given === "numbers") return { rows: rows.map(numbered), labelNames: undefined };
  const named = rows.some((row) => row.labelName !== undefined);
  if (given === undefined && !named) return { rows, labelNames: undefined };
  const labelNames = given ?? classNames(rows);
  const places = new Map(labelNames.map((name, index) => [name, index]));
  return { rows: rows.map((row) => placed(row, labelNames, places)), labelNames };
}

function classNames(rows: readonly ReadRow[]): readonly string[] {
  const names = new Set<string>();
  for (const row of rows) {
    const name = nameOf(row);
    if (name !== undefined) names.add(name);
    if (names.size <= MAX_NAMES) continue;
    throw new DataError("DATA_LABEL_INVALID", `label: more than ${MAX_NAMES} different names of classes`, row, {
      hint: "Check that the column label holds classes; for so many of them, give their indices from 0.",
    });
  }
  const all = [...names];
  return all.every((name) => /^\d{1,15}$/.test(name))
    ? all.sort((a, b) => Number(a) - Number(b) || (a < b ? -1 : 1))
    : all.sort();
}

/** The label as a name; undefined where there is none. */
const nameOf = ({ label, labelName }: ReadRow): string | undefined =>
  labelName ?? (label === undefined ? undefined : String(label));

function placed(row: ReadRow<DataRow>, names: readonly string[], places: ReadonlyMap<string, number>): DataRow {
  const name = nameOf(row);
  if (name === undefined) return row;
  // Numbers may be indices of classes that have names; Python writes True where JSON has true.
  const truth = /^(true|false)$/i.test(name)
    ? names.findIndex((known) => known.toLowerCase() === name.toLowerCase())
    : -1;
  const index = row.labelName === undefined && row.label! < names.length ? row.label : undefined;
  const label = places.get(name) ?? (truth >= 0 ? truth : index);
  if (label !== undefined) return withLabel(row, label);
  throw new DataError("DATA_LABEL_UNKNOWN", `got label ${JSON.stringify(name)}, expected ${listNames(names)}`, row, {
    hint: "Label the row as those that the model was trained on.",
  });
}

function numbered(row: ReadRow<DataRow>): DataRow {
  if (row.labelName === undefined) return row;
  if (/^\d{1,9}$/.test(row.labelName)) return withLabel(row, Number(row.labelName));
  const message = `label: expected a class index (0, 1, ...), got ${JSON.stringify(row.labelName)}`;
  throw new DataError("DATA_LABEL_INVALID", message, row, {
    hint: "The classes that the model was trained on have no names; give the index of each row's class.",
  });
}

function withLabel(row: ReadRow<DataRow>, label: number): DataRow {
  const { labelName: _, ...rest } = row;
  return { ...rest, label };
}

/** Some of many names, for messages. */
function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name));
  return `one of ${shown.join(", ")}${names.length > shown.length ? ` and ${names.length - shown.length} more` : ""}`;
}
