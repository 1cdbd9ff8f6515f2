import type { Dataset } from "../data/dataset.ts";
import { DataError, ModelError } from "../errors.ts";

/** Classes of an arena comparison: A wins, B wins, tie. */
const ARENA_LABELS = 3;

/**
 * Number of classes: 3 for arena data, else one more than the largest label.
 * @throws DataError where the data has fewer than two classes
 */
export function countLabels(datasets: readonly Dataset[]): number {
  const rows = datasets.flatMap((dataset) => dataset.rows);
  if (rows.some((row) => row.kind === "arena")) return ARENA_LABELS;
  const count = rows.reduce((most, row) => Math.max(most, (row.label ?? -1) + 1, row.soft?.length ?? 0), 0);
  if (count >= 2) return count;
  throw new DataError(
    "DATA_ONE_CLASS",
    `the labels name ${count === 0 ? "no class" : "one class only"}`,
    { file: datasets[0]!.files.join(", ") },
    {
      hint: "Labels are whole numbers from 0; a classifier needs at least two classes.",
    },
  );
}

/** @param part what is for arena comparisons alone @throws ModelError where the model has other classes than theirs */
export function requireArenaClasses(part: string, run: string, numLabels: number): void {
  if (numLabels === ARENA_LABELS) return;
  throw new ModelError(
    "MODEL_NOT_ARENA",
    `${run}: ${part} needs a model of three classes (A wins, B wins, tie), this one has ${numLabels}`,
    { hint: "Predict without it, or name a run that was trained on arena rows." },
  );
}

/** What is odd about labels: classes that no row has, as where labels count from 1; undefined where all is well. */
export function missingLabels({ rows }: Dataset, numLabels: number): string | undefined {
  // An arena's three classes are given, and soft labels are no classes.
  if (rows.some((row) => row.kind === "arena" || row.soft !== undefined)) return undefined;
  const seen = new Set(rows.map((row) => row.label));
  const missing = numLabels - seen.size;
  if (missing === 0) return undefined;
  const first: number[] = [];
  for (let label = 0; first.length < Math.min(5, missing); label++) if (!seen.has(label)) first.push(label);
  const names = `${first.join(", ")}${missing > first.length ? ", ..." : ""}`;
  return `no training row has the label ${names}: ${missing} of the ${numLabels} classes 0 to ${numLabels - 1}`;
}

/** @throws DataError for the first row whose label is none of the model's classes */
export function requireKnownLabels({ rows }: Dataset, numLabels: number): void {
  const row = rows.find(({ label }) => label !== undefined && label >= numLabels);
  if (row === undefined) return;
  throw new DataError(
    "DATA_LABEL_UNKNOWN",
    `got label ${row.label}, expected 0 to ${numLabels - 1}, the model's classes`,
    row,
    {
      hint: "Evaluate on rows labelled as those that it was trained on.",
    },
  );
}
