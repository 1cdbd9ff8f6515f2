/** Class probabilities of rows, known by their ids. */
import type { Dataset } from "./data/dataset.ts";
import type { DataRow } from "./data/row.ts";
import { DataError } from "./errors.ts";

/** Columns of the competition's submission. */
export const ARENA_PROBABILITIES = ["winner_model_a", "winner_model_b", "winner_tie"] as const;

export interface ProbabilityRow {
  readonly id: string;
  /** One value for each column. */
  readonly values: readonly number[];
}

/** A table of probabilities (or logits); ids are unique where tables are joined. */
export interface ProbabilityTable {
  /** Names of the value columns, such as `winner_model_a`. */
  readonly columns: readonly string[];
  readonly rows: readonly ProbabilityRow[];
}

/** The dataset itself, once no two rows have the same id. @throws DataError naming the second */
export function requireUniqueIds(dataset: Dataset): Dataset {
  const seen = new Map<string, DataRow>();
  for (const row of dataset.rows) {
    const first = seen.get(row.id);
    if (first !== undefined) {
      throw new DataError(
        "DATA_ID_TWICE",
        `id ${JSON.stringify(row.id)} stands also in ${first.file}:${first.line}`,
        row,
        { hint: "Predictions are joined by id; give every row its own." },
      );
    }
    seen.set(row.id, row);
  }
  return dataset;
}

const csvCell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The table as CSV: `id`, then the columns. */
export function formatProbabilities({ columns, rows }: ProbabilityTable): string {
  const lines = rows.map(({ id, values }) => `${[csvCell(id), ...values].join(",")}\n`);
  return `${["id", ...columns].map(csvCell).join(",")}\n${lines.join("")}`;
}
