/** Weighted means of probability files, and the weights and temperature that fit labels best. */
import { ConfigError, DataError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import {
  type ProbabilityRow,
  type ProbabilityTable,
  readLabels,
  readProbabilities,
  requireFinite,
} from "./probabilities.ts";

/** What is averaged, and how. */
export interface EnsembleRequest {
  /** Probability files, as `predict` writes them. */
  readonly files: readonly string[];
  /** One weight for each file, normalized to a sum of 1; default: equal. */
  readonly weights?: readonly number[] | undefined;
  /** Probabilities become p^(1/T), normalized; above 1 is less certain. Default 1. */
  readonly temperature?: number | undefined;
  /** Files of labels by id (CSV, JSON, JSONL, Parquet), in place of weights and temperature: both are fitted to it. */
  readonly fit?: string | undefined;
}

const check = defineRequest<EnsembleRequest>("ensemble", {
  files: "string[]",
  weights: "number[]?",
  temperature: "number?",
  fit: "string?",
});

export interface EnsembleResult extends ProbabilityTable {
  /** Normalized, one for each file. */
  readonly weights: readonly number[];
  readonly temperature: number;
  /** What the fit reached; undefined without labels. */
  readonly fit: EnsembleFit | undefined;
}

/** Mean log loss over the rows that have a label. */
export interface EnsembleFit {
  readonly rows: number;
  /** Of each file alone. */
  readonly files: readonly number[];
  readonly equalWeights: number;
  readonly fitted: number;
  /** What is odd about the fit, and what to do; undefined where nothing is. */
  readonly warning: string | undefined;
}

/** Probabilities below count as this much, as in scikit-learn's log_loss for f64. */
const LEAST = 2 ** -52;

/**
 * Averages files joined by id; the rows have the first file's order.
 * @throws ConfigError for weights that do not serve; DataError where ids or columns differ
 * @example
 * const file = `${outputDir}/a.csv`;
 * await writeFileAtomic(file, "id,label_0,label_1\n7,0.25,0.75\n");
 * (await ensemble({ files: [file, file], weights: [2, 1] })).rows; // [{ id: "7", values: [0.25, 0.75] }]
 */
export async function ensemble(request: EnsembleRequest): Promise<EnsembleResult> {
  const { files, fit } = check(request);
  checkRequest(request);
  const tables = files.map((file) => readProbabilities(file));
  const { columns, rows } = tables[0]!;
  const members = tables.map((table, i) => joinToFirst(tables[0]!, table, files[0]!, files[i]!));
  const fitted =
    fit === undefined ? undefined : fitToLabels(rows, members, await readLabels(fit, columns), fit, columns.length);
  const weights = fitted?.weights ?? normalize(request.weights ?? files.map(() => 1));
  const temperature = fitted?.temperature ?? request.temperature ?? 1;
  const mixed = rows.map(({ id }, i) => ({
    id,
    values: temper(
      mix(
        members.map((member) => member[i]!),
        weights,
      ),
      temperature,
    ),
  }));
  return requireFinite({ columns, rows: mixed, weights, temperature, fit: fitted?.fit }, "the ensemble");
}

function checkRequest({ files, weights, temperature, fit }: EnsembleRequest): void {
  const problems: string[] = [];
  if (files.length === 0) problems.push("files: got none, expected at least one file of probabilities");
  if (weights !== undefined) {
    if (weights.length !== files.length)
      problems.push(`weights: got ${weights.length} for ${files.length} files, expected one for each`);
    if (!weights.every((weight) => weight >= 0 && weight < Infinity) || !weights.some((weight) => weight > 0))
      problems.push(`weights: got ${weights.join(",")}, expected numbers >= 0, not all 0`);
  }
  if (temperature !== undefined && !(temperature > 0 && temperature < Infinity))
    problems.push(`temperature: got ${temperature}, expected a number > 0`);
  if (fit !== undefined && (weights !== undefined || temperature !== undefined))
    problems.push("fit: got it together with weights or temperature, which it finds");
  if (problems.length > 0) throw new ConfigError("ENSEMBLE_OPTIONS", problems);
}

/** Values of `table` in the order of `first`. */
function joinToFirst(
  first: ProbabilityTable,
  table: ProbabilityTable,
  firstFile: string,
  file: string,
): (readonly number[])[] {
  const wrong = (message: string): DataError => new DataError("ENSEMBLE_FILES_DIFFER", message, { file });
  const order = first.columns.map((name) => table.columns.indexOf(name));
  if (table.columns.length !== order.length || order.includes(-1))
    throw wrong(`columns ${table.columns.join(", ")}, but ${firstFile} has ${first.columns.join(", ")}`);
  const byId = new Map(table.rows.map(({ id, values }) => [id, values]));
  const joined = first.rows.map(({ id }) => {
    const values = byId.get(id);
    if (values === undefined) throw wrong(`there is no row of id ${JSON.stringify(id)}, which ${firstFile} has`);
    return order.map((column) => values[column]!);
  });
  const known = new Set(first.rows.map(({ id }) => id));
  const extra = table.rows.find(({ id }) => !known.has(id));
  if (extra !== undefined) throw wrong(`id ${JSON.stringify(extra.id)} is not in ${firstFile}`);
  return joined;
}

function normalize(values: readonly number[]): number[] {
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum !== Infinity) return values.map((value) => value / sum);
  const top = Math.max(...values);
  return normalize(values.map((value) => value / top));
}

function mix(members: readonly (readonly number[])[], weights: readonly number[]): number[] {
  return normalize(members[0]!.map((_, c) => members.reduce((sum, values, k) => sum + weights[k]! * values[c]!, 0)));
}

function temper(values: readonly number[], temperature: number): number[] {
  if (temperature === 1) return [...values];
  const logs = values.map((value) => Math.log(Math.max(value, LEAST)));
  const top = Math.max(...logs);
  return normalize(logs.map((log) => Math.exp((log - top) / temperature)));
}

interface Fitted {
  readonly weights: readonly number[];
  readonly temperature: number;
  readonly fit: EnsembleFit;
}

function fitToLabels(
  rows: readonly ProbabilityRow[],
  members: readonly (readonly (readonly number[])[])[],
  labels: ReadonlyMap<string, number>,
  file: string,
  classes: number,
): Fitted {
  const known = rows.flatMap(({ id }, row) => {
    const label = labels.get(id);
    if (label === undefined) return [];
    if (label < classes) return [{ row, label }];
    const message = `id ${JSON.stringify(id)} has label ${label}, but there are ${classes} classes`;
    throw new DataError("DATA_LABEL_INVALID", message, { file });
  });
  if (known.length === 0) {
    throw new DataError(
      "ENSEMBLE_NO_LABELS",
      "no id of the probability files is in this file",
      { file },
      {
        hint: "Fit on out-of-fold probabilities: rows that no model was trained on, whose labels are known.",
      },
    );
  }
  const loss = (weights: readonly number[], temperature: number): number =>
    known.reduce((sum, { row, label }) => {
      const values = mix(
        members.map((member) => member[row]!),
        weights,
      );
      return sum - Math.log(Math.max(temper(values, temperature)[label]!, LEAST));
    }, 0) / known.length;
  const equal = normalize(members.map(() => 1));
  // [rows][members] probability that each member gave to the label.
  const given = known.map(({ row, label }) => members.map((member) => Math.max(member[row]![label]!, LEAST)));
  const weights = fitWeights(given, equal);
  const temperature = fitTemperature((t) => loss(weights, t));
  const files = members.map((_, k) =>
    loss(
      members.map((__, i) => (i === k ? 1 : 0)),
      1,
    ),
  );
  const fit = {
    rows: known.length,
    files,
    equalWeights: loss(equal, 1),
    fitted: loss(weights, temperature),
    warning: boundWarning(temperature, known.length),
  };
  return { weights, temperature, fit };
}

/** What a temperature at the end of its range means; undefined for one that is not. */
function boundWarning(temperature: number, rows: number): string | undefined {
  if (temperature === MAX_TEMPERATURE)
    return (
      `the temperature stopped at ${temperature}, the most that is tried: the labels are fitted best by probabilities that ` +
      "say next to nothing. Check that the labels are of these rows and that both count the classes alike; " +
      "else give weights and a temperature in place of the fit."
    );
  if (temperature === MIN_TEMPERATURE)
    return (
      `the temperature stopped at ${temperature}, the least that is tried: the labels of these ${rows} rows are fitted best by ` +
      "certainty, as where no row is wrong. Fit on more rows, none of which a model was trained on; " +
      "else give weights and a temperature in place of the fit."
    );
  return undefined;
}

/**
 * Weights of a mixture with the least log loss, by expectation and maximization: the loss is convex in them, never grows
 * from step to step, and after t steps from equal weights of K members is at most log(K) / t above the least.
 */
function fitWeights(given: readonly (readonly number[])[], start: readonly number[]): readonly number[] {
  let weights = start;
  for (let step = 0; step < 5000; step++) {
    const sums = weights.map(() => 0);
    for (const row of given) {
      const shares = row.map((value, k) => weights[k]! * value);
      const total = shares.reduce((sum, share) => sum + share, 0);
      shares.forEach((share, k) => (sums[k]! += share / total));
    }
    const next = normalize(sums);
    const moved = Math.max(...next.map((weight, k) => Math.abs(weight - weights[k]!)));
    weights = next;
    if (moved < 1e-9) break;
  }
  return weights;
}

/** The range of temperatures that are tried. */
const MIN_TEMPERATURE = 0.1;
const MAX_TEMPERATURE = 10;
/** How closely 1/T is found. */
const PRECISION = 1e-6;

/**
 * The temperature of the least loss, by golden section over 1/T, in which log loss is convex; exactly a bound of the range
 * where the loss falls up to it.
 */
function fitTemperature(loss: (temperature: number) => number): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  const [least, most] = [1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE];
  let [low, high] = [least, most];
  while (high - low > PRECISION) {
    const [left, right] = [high - ratio * (high - low), low + ratio * (high - low)];
    if (loss(1 / left) <= loss(1 / right)) high = right;
    else low = left;
  }
  if (low === least) return MAX_TEMPERATURE;
  if (high === most) return MIN_TEMPERATURE;
  return 2 / (low + high);
}
