/** A file of out-of-fold predictions that grows by one fold after the other. */
import { existsSync } from "node:fs";
import { DataError } from "../core/errors.ts";
import { type ProbabilityTable, readProbabilities, requireFinite } from "./probabilities.ts";

/**
 * Held-out rows, added to the folds that the file has already; writes nothing.
 * @throws DataError where the file has other columns, or a row of these: each row belongs to one fold; QloraError for values
 * that are no numbers
 */
export function withOutOfFold(file: string, table: ProbabilityTable): ProbabilityTable {
  const { columns, rows } = requireFinite(table, file);
  const before = existsSync(file) ? readProbabilities(file) : { columns, rows: [] };
  const hint = "Give another file, or remove it to start anew.";
  if (before.columns.join() !== columns.join()) {
    const message = `columns: found ${before.columns.join(", ")}, expected ${columns.join(", ")}`;
    throw new DataError("OOF_DIFFERS", message, { file, line: 1 }, { hint });
  }
  const known = new Set(before.rows.map(({ id }) => id));
  const there = rows.find(({ id }) => known.has(id));
  if (there !== undefined) {
    const message = `id ${JSON.stringify(there.id)} is there already: this fold, or one that shares rows with it`;
    throw new DataError("OOF_TWICE", message, { file }, { hint });
  }
  const own = new Set<string>();
  for (const { id } of rows) {
    if (own.has(id)) {
      const message = `id ${JSON.stringify(id)} stands twice among the rows held out, but files are joined by id`;
      throw new DataError("OOF_TWICE", message, { file }, { hint: "Give every row of the data an id of its own." });
    }
    own.add(id);
  }
  return { columns, rows: [...before.rows, ...rows] };
}
