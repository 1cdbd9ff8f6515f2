import { ConfigError } from "../../core/errors.ts";
import { suggestion } from "../../core/util/suggest.ts";
import { metricFormat } from "../../runtime/report/curves.ts";
import { formatDecimal, metricTitle } from "../../runtime/report/format.ts";
import { betterSign } from "../../runtime/report/history.ts";
import { compareRuns } from "../../sdk/compare.ts";
import { listRuns, type RunSummary, type UnreadableRun } from "../../sdk/runs.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";

interface RunsFlags {
  readonly sort: string | undefined;
  readonly json: boolean;
}

/** Lists runs, or compares those that follow the word "compare". */
export async function runs(positionals: readonly string[], flags: RunsFlags): Promise<void> {
  if (positionals[0] === "compare") return compare(positionals.slice(1), flags);
  const folders = positionals.length === 0 ? ["output"] : positionals;
  const found = await listRuns(folders);
  const readable = found.filter((run) => run.state !== "unreadable");
  const unreadable = found.filter((run) => run.state === "unreadable");
  const sorted = sortRuns(readable, flags.sort ?? "started");
  if (flags.json) return writeJson([...sorted, ...unreadable]);
  if (found.length === 0) notes.info(`no runs below ${folders.join(", ")}`);
  else await writeData(table(sorted, unreadable));
  for (const { path, problem } of unreadable) notes.warn(`unreadable: ${path}: ${problem}`);
}

async function compare(paths: readonly string[], { sort, json }: RunsFlags): Promise<void> {
  if (sort !== undefined) throw new ConfigError("USAGE", "--sort: got it with compare, expected it with a list");
  if (paths.length < 2) {
    throw new ConfigError(
      "USAGE",
      `compare: got ${paths.length} run${paths.length === 1 ? "" : "s"}, expected two or more`,
      {
        hint: "qlora runs compare output/a output/b",
      },
    );
  }
  const { runs: compared, differences } = await compareRuns(paths);
  if (json) return writeJson({ runs: compared, differences });
  const settings = Object.entries(differences).map(([key, values]) => [key, ...values.map(shown)]);
  const best = bestOf(compared);
  const metrics = metricsOf(compared).map((key) => [
    evalTitle(key),
    ...compared.map((run) => metricCell(run, key, best)),
  ]);
  const facts: [string, (run: RunSummary) => string][] = [
    ["state", stateCell],
    ["steps", stepsCell],
    ["train loss", ({ trainLoss }) => decimal(trainLoss)],
  ];
  const row = ([name, cell]: (typeof facts)[number]): string[] => [name, ...compared.map(cell)];
  const rows = [
    ["", ...paths],
    ...settings,
    ...(settings.length === 0 ? [["config", ...paths.map(() => "the same")]] : []),
    [""],
    ...facts.map(row),
    ...metrics,
    row(["samples/s", speedCell]),
  ];
  await writeData(columns(rows));
}

/** A value of run.json; text without its quotes. */
function shown(value: unknown): string {
  if (value === undefined) return NONE;
  return typeof value === "string" ? value : Array.isArray(value) ? value.join(",") : JSON.stringify(value);
}

const NONE = "-";

const evalTitle = (key: string): string => `eval ${metricTitle(key)}`;

function table(readable: readonly RunSummary[], unreadable: readonly UnreadableRun[]): string {
  const keys = metricsOf(readable);
  const best = bestOf(readable);
  const head = [
    "run",
    "model",
    "adapter",
    "optimizer",
    "steps",
    "train loss",
    ...keys.map(evalTitle),
    "samples/s",
    "started",
    "state",
  ];
  const rows = readable.map((run) => [
    run.path,
    run.model ?? NONE,
    adapterCell(run),
    run.optimizer ?? NONE,
    stepsCell(run),
    decimal(run.trainLoss),
    ...keys.map((key) => metricCell(run, key, best)),
    speedCell(run),
    run.startedAt?.slice(0, 16).replace("T", " ") ?? NONE,
    stateCell(run),
  ]);
  const broken = unreadable.map(({ path, state }) => [path, ...head.slice(2).map(() => NONE), state]);
  const right = head.map((_, i) => i >= 4 && i < head.length - 2);
  const legend = [
    ...(best.size > 0 ? ["* the best of its column"] : []),
    ...(readable.some(({ state }) => state === "running") ? ["running? it did not stop, and wrote not long ago"] : []),
  ];
  return [columns([head, ...rows, ...broken], right), ...legend.map((line) => `${line}\n`)].join("");
}

/** Metrics that any of the runs has; `eval_loss` only where there is no other. */
function metricsOf(all: readonly RunSummary[]): string[] {
  const keys = [...new Set(all.flatMap(({ metrics }) => Object.keys(metrics)))];
  const others = keys.filter((key) => key !== "eval_loss");
  return others.length > 0 ? others : keys;
}

/** The best value of each metric over several runs. */
function bestOf(all: readonly RunSummary[]): Map<string, number> {
  const best = new Map<string, number>();
  if (all.length < 2) return best;
  for (const key of metricsOf(all)) {
    const values = all.flatMap(({ metrics }) => metrics[key] ?? []).filter(Number.isFinite);
    const sign = betterSign(key);
    if (sign !== 0 && values.length > 0) best.set(key, sign * Math.min(...values.map((value) => sign * value)));
  }
  return best;
}

function metricCell({ metrics }: RunSummary, key: string, best: ReadonlyMap<string, number>): string {
  const value = metrics[key];
  const mark = best.has(key) ? (value === best.get(key) ? "*" : " ") : "";
  return `${value === undefined ? NONE : metricFormat(key)(value)}${mark}`;
}

const decimal = (value: number | undefined): string => (value === undefined ? NONE : formatDecimal(value));

const stepsCell = ({ step, totalSteps }: RunSummary): string =>
  totalSteps === undefined ? String(step) : `${step}/${totalSteps}`;

const speedCell = ({ samplesPerSecond: speed }: RunSummary): string =>
  speed === undefined ? NONE : speed.toPrecision(3);

const stateCell = ({ state }: RunSummary): string => (state === "running" ? "running?" : state);

function adapterCell({ adapter }: RunSummary): string {
  if (adapter === undefined) return NONE;
  const { name, rank, alpha } = adapter;
  return [name, rank && `r${rank}`, alpha && `a${alpha}`].filter(Boolean).join(" ");
}

/** Values to sort by, the first least; undefined goes last. */
const SORTS: Readonly<Record<string, (run: RunSummary) => number | undefined>> = {
  started: ({ startedAt }) => (startedAt === undefined ? undefined : -Date.parse(startedAt)),
  name: () => 0, // as they were found
  steps: ({ step }) => -step,
  "train-loss": ({ trainLoss }) => trainLoss,
  "samples-per-second": ({ samplesPerSecond: speed }) => speed && -speed,
};

/** Sorts by a column, the newest or the best first. @throws ConfigError where there is no such column */
function sortRuns(found: readonly RunSummary[], column: string): RunSummary[] {
  const metrics = metricsOf(found).map((key) => [metricTitle(key).replaceAll(" ", "-"), key] as const);
  const known = [...Object.keys(SORTS), ...metrics.map(([name]) => name)];
  const wanted = column.replaceAll("_", "-");
  const metric = metrics.find(([name]) => name === wanted)?.[1];
  const own = Object.hasOwn(SORTS, wanted) ? SORTS[wanted] : undefined;
  const value = metric === undefined ? own : ({ metrics: all }: RunSummary) => signed(all[metric], metric);
  if (value === undefined) {
    throw new ConfigError("USAGE", `--sort: got "${column}", which is no column${suggestion(wanted, known)}`);
  }
  const key = (run: RunSummary): number => {
    const found = value(run);
    return found === undefined || Number.isNaN(found) ? Infinity : found;
  };
  return found.toSorted((a, b) => key(a) - key(b) || 0);
}

const signed = (value: number | undefined, metric: string): number | undefined =>
  value === undefined ? undefined : value * (betterSign(metric) || 1);
