/** How many classes data has, and whether they are those of a model. */
import { DataError, ModelError } from "../../core/errors.ts";
import type { Dataset } from "./dataset.ts";
import type { DataFormat } from "../../core/plugin/data-format.ts";
import { fixedClasses, formatOf } from "./formats/index.ts";

/**
 * Number of classes: those that the format gives (for arena data 3, or 2 where no row may be a tie); else as many as have names,
 * or one more than the largest label.
 * @throws DataError where the data has fewer than two classes
 */
export function countLabels(datasets: readonly Dataset[]): number {
  const rows = datasets.flatMap((dataset) => dataset.rows);
  const named = datasets[0]!.labelNames?.length ?? 0;
  const count = rows.reduce((most, row) => Math.max(most, (row.label ?? -1) + 1, row.soft?.length ?? 0), named);
  const fixed = fixedClasses(rows);
  if (fixed !== undefined) {
    const given = datasets.flatMap(({ classes }) => classes ?? []);
    const soft = rows.find((row) => row.soft !== undefined)?.soft?.length;
    return soft ?? (given.length === 0 ? fixed.columns.length : Math.max(count, ...given));
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
  /** Whether a run says what it trained on: fewer classes than the format has are named there. */
  readonly recorded: boolean;
}

/**
 * @param part what needs the classes of the rows' format
 * @param all whether it needs every class: no model that was trained without the last
 * @throws ModelError where the model has other classes
 */
export function requireClasses({ rows }: Dataset, part: string, run: string, known: KnownClasses, all: boolean): void {
  const format: DataFormat | undefined = rows.map(formatOf).find(({ classes }) => classes !== undefined);
  if (format?.classes === undefined) return;
  const { columns, min, expected } = format.classes;
  const { numLabels, names, recorded } = known;
  const fewer = numLabels >= min && numLabels < columns.length;
  const some = fewer && (names === undefined ? !recorded : names.join() === columns.slice(0, numLabels).join());
  if ((names === undefined && numLabels === columns.length) || (some && !all)) return;
  const wanted = all ? expected.all : expected.some;
  const got = names === undefined || some ? String(numLabels) : names.join(", ");
  throw new ModelError("MODEL_CLASSES_UNFIT", `${run}: ${part} needs a model of ${wanted}, this one has ${got}`, {
    hint: `Predict without it, or name a run that was trained on ${format.name} rows.`,
  });
}

/** What is odd about labels: classes that no row has, as where labels count from 1; undefined where all is well. */
export function missingLabels({ rows, labelNames }: Dataset, numLabels: number): string | undefined {
  // Soft labels are no classes.
  if (rows.some((row) => row.soft !== undefined)) return undefined;
  const seen = new Set(rows.map((row) => row.label));
  const fixed = fixedClasses(rows);
  if (fixed !== undefined) return fixed.missing(seen, numLabels);
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
