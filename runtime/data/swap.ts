import { DataError } from "../../core/errors.ts";
import type { Dataset } from "./dataset.ts";
import type { ArenaRow, DataRow } from "./row.ts";

/** Class of an arena row (0 = A wins, 1 = B wins, 2 = tie) once its responses have changed places. */
const SWAPPED_LABELS = [1, 0, 2] as const;

/** An arena row with its responses, and so its label, exchanged. */
function swapRow(row: ArenaRow): ArenaRow {
  return {
    ...row,
    responseA: row.responseB,
    responseB: row.responseA,
    label: row.label === undefined ? undefined : SWAPPED_LABELS[row.label],
    ...(row.soft === undefined ? {} : { soft: row.soft.map((_, label) => row.soft![SWAPPED_LABELS[label] ?? label]!) }),
  };
}

/** The dataset with A and B exchanged in every arena row; other rows stay as they are. */
export function swapResponses(dataset: Dataset): Dataset {
  return { ...dataset, rows: dataset.rows.map((row): DataRow => (row.kind === "arena" ? swapRow(row) : row)) };
}

/**
 * Every row, then every row with A and B exchanged under the id `<id>#swapped`.
 * @throws DataError for a row that is no arena row
 */
export function augmentBySwapping(dataset: Dataset): Dataset {
  const other = dataset.rows.find((row) => row.kind !== "arena");
  if (other !== undefined) {
    throw new DataError("DATA_NOT_ARENA", `swapAugment needs arena rows, this one is ${other.kind}`, other, {
      hint: "Arena files have the columns prompt, response_a and response_b.",
    });
  }
  const swapped = swapResponses(dataset).rows.map((row) => ({ ...row, id: `${row.id}#swapped` }));
  return { ...dataset, rows: [...dataset.rows, ...swapped] };
}
