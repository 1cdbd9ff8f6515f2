/** Rows seen from the other side: responses exchanged, and labels with them. */
import type { Dataset } from "./dataset.ts";
import type { DataFormat } from "../../core/plugin/data-format.ts";
import { type DataRow, formatOf, requireFormat } from "./formats/index.ts";

/** Whether rows of the format can be swapped. */
export const canSwap = ({ classes }: DataFormat): boolean => classes?.mirror !== undefined;

/** The class that each of so many becomes where responses are exchanged; undefined where the format has no mirror. */
export function classMirror({ classes }: DataFormat, numLabels: number): readonly number[] | undefined {
  const labels = classes?.mirror?.labels.slice(0, numLabels);
  return labels?.length === numLabels ? labels : undefined;
}

/** The row with its responses, and so its label, exchanged; itself where its format has no mirror. */
function swapRow(row: DataRow): DataRow {
  const mirror = formatOf(row).classes?.mirror;
  if (mirror === undefined) return row;
  const { labels } = mirror;
  return {
    ...(mirror.row(row) as DataRow),
    label: row.label === undefined ? undefined : labels[row.label],
    ...(row.soft === undefined ? {} : { soft: row.soft.map((_, label) => row.soft![labels[label] ?? label]!) }),
  };
}

/** The dataset with the responses of every row exchanged; rows of formats without a mirror stay as they are. */
export function swapResponses(dataset: Dataset): Dataset {
  return { ...dataset, rows: dataset.rows.map(swapRow) };
}

/**
 * Every row, then every row with its responses exchanged under the id `<id>#swapped`.
 * @throws DataError for a row that cannot be swapped
 */
export function augmentBySwapping(dataset: Dataset): Dataset {
  requireFormat(dataset.rows, "swapAugment", canSwap);
  const swapped = swapResponses(dataset).rows.map((row) => ({ ...row, id: `${row.id}#swapped` }));
  return { ...dataset, rows: [...dataset.rows, ...swapped] };
}
