/** The top of a report: what ran, how far it came, and its figures. */
import { formatBytes } from "../../core/util/byte-size.ts";
import { metricFormat } from "./curves.ts";
import {
  capitalize,
  countOf,
  formatCount,
  formatDecimal,
  formatEpoch,
  formatLarge,
  formatMoment,
  formatRate,
  formatSeconds,
  metricTitle,
  number,
  type NumberFormat,
} from "./format.ts";
import { bestPoint, medianOf, metricKeys, pointsOf, type History } from "./history.ts";
import { markup, type Content, type Markup } from "./markup.ts";
import type { RunState } from "./run-state.ts";
import { at, checkpointName, numberAt, textAt, type ReportRun } from "./run.ts";

interface Figure {
  readonly name: string;
  readonly value: Content;
  readonly note?: Content;
}

/** Title, state, recipe and headline figures. */
export function renderSummary(run: ReportRun, history: History, state?: RunState): Markup {
  const figures = figuresOf(run, history, state);
  return markup`
<header>
<h1>${run.name}</h1>
<p class="lead">${standing(run, history, state)}</p>
${recipe(run).map((line) => markup`<p class="recipe">${line.map((part) => markup`<span>${part}</span> `)}</p>`)}
</header>
<dl class="figures">
${figures.map(({ name, value, note }) => markup`<div><dt>${name}</dt><dd>${value}</dd>${note !== undefined && markup`<dd class="note">${note}</dd>`}</div>`)}
</dl>`;
}

function standing(
  { record }: ReportRun,
  { summary, lastStep, lastEpoch }: History,
  known: RunState | undefined,
): Markup {
  const total = numberAt(record, "totalSteps");
  const of = total === undefined ? "" : ` of ${formatCount(total)}`;
  const started = textAt(record, "startedAt");
  const read = summary !== undefined ? "Finished" : lastStep === 0 ? "Not a step logged yet" : "Not finished";
  const state = known === undefined ? read : capitalize(known);
  const where = `${formatCount(lastStep)}${of} ${(total ?? lastStep) === 1 ? "step" : "steps"}, ${formatEpoch(lastEpoch)} epochs`;
  return markup`<b>${state}</b>: ${where}${started !== undefined && `; started ${formatMoment(started)}`}`;
}

/** What was trained and how, in two lines. */
function recipe({ record }: ReportRun): string[][] {
  const config = record["config"];
  const name = (kind: string): string | undefined => textAt(config, kind, "name");
  const option = (kind: string, key: string): number | undefined => numberAt(config, kind, "options", key);
  const training = (key: string): number | undefined => numberAt(config, "training", key);
  const [rank, alpha] = [option("adapter", "rank"), option("adapter", "alpha")];
  const parameters = numberAt(record, "trainableParameters");
  const [batch, accumulation] = [training("perDeviceTrainBatchSize"), training("gradientAccumulationSteps")];
  const rate = training("learningRate");
  const rows = numberAt(record, "data", "trainRows");
  const maxLength = numberAt(config, "data", "maxLength");
  const what = [
    checkpointName(record) ?? name("model"),
    name("adapter") &&
      `${name("adapter")}${rank === undefined ? "" : ` rank ${rank}`}${alpha === undefined ? "" : ` alpha ${alpha}`}`,
    parameters !== undefined && `${formatLarge(parameters)} trainable parameters`,
    rows !== undefined && `${formatCount(rows)} rows`,
    maxLength !== undefined && `at most ${formatCount(maxLength)} tokens`,
  ];
  const how = [
    name("optimizer"),
    rate !== undefined &&
      `learning rate ${formatRate(rate)} ${textAt(config, "training", "lrSchedulerType") ?? ""}`.trim(),
    batch !== undefined &&
      `batch ${formatCount(batch * (accumulation ?? 1))}${(accumulation ?? 1) > 1 ? ` (${batch} × ${accumulation})` : ""}`,
    training("seed") !== undefined && `seed ${training("seed")}`,
  ];
  return [what, how]
    .map((parts) => parts.filter((part) => part !== undefined && part !== false && part !== "") as string[])
    .filter((parts) => parts.length > 0);
}

function figuresOf(run: ReportRun, history: History, state: RunState | undefined): Figure[] {
  const { record } = run;
  const { training, evaluations, lastStep } = history;
  const total = numberAt(record, "totalSteps");
  const skipped = pointsOf(training, "skipped_steps").reduce((sum, { value }) => sum + value, 0);
  return [
    ...evaluationFigures(history),
    ...trainLossFigures(history),
    {
      name: "Steps",
      value: number(lastStep, formatCount),
      note: [
        total !== undefined && total !== lastStep && `of ${formatCount(total)} `,
        skipped > 0 && markup`<span class="bad">${formatCount(skipped)} skipped, not finite</span>`,
        evaluations.length > 0 && skipped === 0 && total === lastStep && countOf(evaluations.length, "evaluation"),
      ],
    },
    ...tokenFigures(run, history),
    ...timeFigures(history, state === "running" ? total : undefined),
    ...waitingFigures(history),
    ...memoryFigures(history),
    ...deviceFigures(record["device"]),
  ];
}

/** Below this share of the time nobody need look at the ranks. */
const WAITING_TOLD = 0.05;

/** How long the rank that waits most waits for the others, where it is long. */
function waitingFigures({ training }: History): Figure[] {
  const keys = new Set(training.flatMap((entry) => Object.keys(entry).filter((key) => /^rank_\d+_waiting$/.test(key))));
  const shares = [...keys].map((key) => {
    const points = pointsOf(training, key);
    return { rank: key.split("_")[1]!, share: points.reduce((sum, { value }) => sum + value, 0) / points.length };
  });
  const most = shares.reduce((a, b) => (b.share > a.share ? b : a), { rank: "", share: 0 });
  if (most.share <= WAITING_TOLD) return [];
  const note = `of its time by rank ${most.rank} of ${shares.length}: shares or GPUs are uneven`;
  return [{ name: "Waiting for others", value: number(100 * most.share, (share) => `${share.toFixed(0)} %`), note }];
}

function evaluationFigures({ evaluations }: History): Figure[] {
  const keys = metricKeys(evaluations).filter((key) => key !== "eval_loss");
  const shown = keys.length > 0 ? keys : metricKeys(evaluations);
  return shown.slice(0, 3).flatMap((key) => {
    const points = pointsOf(evaluations, key);
    const last = points.at(-1);
    if (last === undefined) return [];
    const format = metricFormat(key);
    const best = bestPoint(points, key);
    const note =
      best === undefined
        ? undefined
        : best.value === last.value
          ? `best of ${formatCount(points.length)}`
          : `best ${format(best.value)} at step ${formatCount(best.step)}`;
    return [
      {
        name: `Eval ${metricTitle(key)}`,
        value: number(last.value, format),
        note: points.length > 1 ? note : undefined,
      },
    ];
  });
}

function trainLossFigures({ training, summary }: History): Figure[] {
  const last = pointsOf(training, "loss").at(-1);
  const mean = summary?.["train_loss"];
  if (last === undefined && mean === undefined) return [];
  if (last === undefined) return [{ name: "Train loss", value: number(mean!), note: "mean of the run" }];
  return [
    {
      name: "Train loss",
      value: number(last.value),
      note: mean === undefined ? "last logged" : markup`last logged; mean ${number(mean)}`,
    },
  ];
}

function tokenFigures(run: ReportRun, { training, summary }: History): Figure[] {
  const tokens = pointsOf(training, "num_input_tokens_seen").at(-1)?.value ?? run.tokens;
  const median = medianOf(pointsOf(training, "tokens_per_second"));
  const samples = summary?.["train_samples_per_second"];
  const pace: Figure[] =
    median !== undefined
      ? [
          {
            name: "Tokens per second",
            value: number(median, formatCount),
            note: samples === undefined ? "median" : `median; ${formatDecimal(samples, 2)} samples/s`,
          },
        ]
      : samples !== undefined
        ? [{ name: "Samples per second", value: number(samples, two) }]
        : [];
  return tokens === undefined
    ? pace
    : [{ name: "Tokens", value: number(tokens, formatLarge), note: "no padding" }, ...pace];
}

const size: NumberFormat = (bytes) => formatBytes(bytes).replace(" ", "\u00a0");
const two: NumberFormat = (value) => formatDecimal(value, 2);

/** How long a finished run took, or what is left of one that runs to `total` steps: from its tokens so far and their pace. */
function timeFigures({ training, summary, lastStep }: History, total: number | undefined): Figure[] {
  const runtime = summary?.["train_runtime"];
  if (runtime !== undefined) {
    const note = perStep(runtime, summary?.["train_steps_per_second"]);
    return [{ name: "Time", value: number(runtime, formatSeconds), note }];
  }
  const tokens = pointsOf(training, "num_input_tokens_seen").at(-1);
  const pace = medianOf(pointsOf(training, "tokens_per_second"));
  if (total === undefined || tokens === undefined || pace === undefined) return [];
  const left = ((total - lastStep) * tokens.value) / tokens.step / pace;
  return [{ name: "Time left", value: number(left, formatSeconds), note: "without evaluations" }];
}

function perStep(runtime: number, stepsPerSecond: number | undefined): string | undefined {
  if (stepsPerSecond === undefined || !(stepsPerSecond > 0) || runtime === 0) return undefined;
  return `${formatSeconds(1 / stepsPerSecond)} a step`;
}

function memoryFigures({ training }: History): Figure[] {
  const bytes = pointsOf(training, "memory_bytes").map(({ value }) => value);
  return bytes.length === 0
    ? []
    : [{ name: "GPU memory", value: number(Math.max(...bytes), size), note: "most allocated" }];
}

function deviceFigures(device: unknown): Figure[] {
  if (device === undefined) return [];
  const adapter = at(device, "adapter");
  const name =
    textAt(adapter, "description") ?? textAt(adapter, "device") ?? capitalize(textAt(adapter, "vendor") ?? "unnamed");
  const tier = textAt(device, "tier");
  const provider = textAt(device, "provider");
  const note = [tier !== undefined && `tier ${tier}`, provider].filter(Boolean).join(", ");
  return [{ name: "Device", value: markup`<span class="device">${name}</span>`, note }];
}
