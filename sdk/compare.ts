/** What distinguishes runs: the values of their configs, data and devices that differ, and their figures. */
import { isObject } from "../core/formats/json-object.ts";
import { readReportRun, type JsonObject } from "../runtime/report/run.ts";
import { summarizeRun, type RunSummary } from "./runs.ts";

/** Runs side by side. */
export interface RunComparison {
  readonly runs: readonly RunSummary[];
  /** By path of the value, as `training.learningRate`: the value of each run, undefined where it has none. */
  readonly differences: Readonly<Record<string, readonly unknown[]>>;
}

/** Differ in any two runs, and say nothing of what was trained. */
const BESIDE_THE_POINT =
  /^(training\.(outputDir|overwriteOutputDir|resumeFromCheckpoint|loggingDir|runName)|(training\.)?reportTo(\..*)?)$/;
/** What run.json says beside its config that bears on the result. */
const FACTS = [
  "qlora",
  "data",
  "model",
  "baseModel.sha",
  "device.provider",
  "device.tier",
  "device.adapter.description",
];

/**
 * Compares the runs of some folders.
 * @throws QloraError RUN_NOT_FOUND, RUN_RECORD_INVALID or METRICS_DAMAGED naming the file
 * @example
 * const { differences } = await compareRuns([run, run]); // two folders
 * for (const [key, values] of Object.entries(differences)) console.log(key, values);
 */
export async function compareRuns(paths: readonly string[]): Promise<RunComparison> {
  const runs = await Promise.all(paths.map((path) => summarizeRun(path)));
  const values = await Promise.all(paths.map(async (path) => valuesOf((await readReportRun(path)).record)));
  const keys = new Set(values.flatMap((map) => [...map.keys()]));
  const differences = [...keys].flatMap((key) => {
    const row = values.map((map) => map.get(key));
    return new Set(row.map((value) => JSON.stringify(value))).size > 1 ? [[key, row] as const] : [];
  });
  return { runs, differences: Object.fromEntries(differences) };
}

function valuesOf(record: JsonObject): Map<string, unknown> {
  const { config, ...facts } = record;
  const isFact = (path: string): boolean => FACTS.some((fact) => path === fact || path.startsWith(`${fact}.`));
  return new Map([
    ...leaves(config).filter(([path]) => !BESIDE_THE_POINT.test(path)),
    ...leaves(facts).filter(([path]) => isFact(path)),
  ]);
}

/** `{ a: { b: 1 }, c: [2] }` as `a.b` 1 and `c` [2]. */
function leaves(value: unknown, path = ""): [path: string, value: unknown][] {
  if (!isObject(value)) return value === undefined ? [] : [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === "" ? key : `${path}.${key}`));
}
