import { DataError, ModelError } from "../../core/errors.ts";
import { TWO_WINNERS } from "./arena.ts";
import type { Dataset } from "./dataset.ts";

/** Classes of an arena comparison: A wins, B wins, tie. */
const ARENA_LABELS = 3;

/**
 * Number of classes: for arena data 3, or 2 where no row may be a tie; else as many as have names, or one more than the largest
 * label.
 * @throws DataError where the data has fewer than two classes
 */
export function countLabels(datasets: readonly Dataset[]): number {
  const rows = datasets.flatMap((dataset) => dataset.rows);
  const named = datasets[0]!.labelNames?.length ?? 0;
  const count = rows.reduce((most, row) => Math.max(most, (row.label ?? -1) + 1, row.soft?.length ?? 0), named);
  if (rows.some((row) => row.kind === "arena")) {
    const given = datasets.flatMap(({ classes }) => classes ?? []);
    const soft = rows.find((row) => row.soft !== undefined)?.soft?.length;
    return soft ?? (given.length === 0 ? ARENA_LABELS : Math.max(count, ...given));
  }
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

/** What is known of a model's classes. */
export interface KnownClasses {
  readonly numLabels: number;
  readonly names: readonly string[] | undefined;
  /** Whether a run says what it trained on: two classes of an arena have names there. */
  readonly recorded: boolean;
}

/**
 * @param part what is for arena comparisons alone
 * @param ties whether it is for those of three classes only
 * @throws ModelError where the model has other classes than theirs
 */
export function requireArenaClasses(part: string, run: string, known: KnownClasses, ties: boolean): void {
  const { numLabels, names, recorded } = known;
  const two = names === undefined ? numLabels === 2 && !recorded : names.join() === TWO_WINNERS.join();
  if ((names === undefined && numLabels === ARENA_LABELS) || (two && !ties)) return;
  const expected = ties ? "three classes (A wins, B wins, tie)" : "an arena's classes (A wins, B wins, perhaps tie)";
  const got = names === undefined || two ? String(numLabels) : names.join(", ");
  throw new ModelError("MODEL_NOT_ARENA", `${run}: ${part} needs a model of ${expected}, this one has ${got}`, {
    hint: "Predict without it, or name a run that was trained on arena rows.",
  });
}

/** What is odd about labels: classes that no row has, as where labels count from 1; undefined where all is well. */
export function missingLabels({ rows, labelNames }: Dataset, numLabels: number): string | undefined {
  // Soft labels are no classes.
  if (rows.some((row) => row.soft !== undefined)) return undefined;
  if (rows.some((row) => row.kind === "arena")) {
    if (numLabels < ARENA_LABELS || rows.some((row) => row.label === ARENA_LABELS - 1)) return undefined;
    return "no training row is a tie: the third of the three classes is never seen (without a column winner_tie, two are trained)";
  }
  const seen = new Set(rows.map((row) => row.label));
  const missing = numLabels - seen.size;
  if (missing === 0) return undefined;
  const first: number[] = [];
  for (let label = 0; first.length < Math.min(5, missing); label++) if (!seen.has(label)) first.push(label);
  const names = `${first.map((label) => labelNames?.[label] ?? label).join(", ")}${missing > first.length ? ", ..." : ""}`;
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
