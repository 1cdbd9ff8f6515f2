/** Which curves a report shows, and how each is drawn. */
import {
  capitalize,
  formatCount,
  formatDecimal,
  formatPercent,
  formatRate,
  metricTitle,
  type NumberFormat,
} from "./format.ts";
import { bestPoint, metricKeys, pointsOf, type History, type Point } from "./history.ts";
import { markup, type Markup } from "./markup.ts";
import { numberAt, textAt, type JsonObject } from "./run.ts";
import { renderStepChart, stepAxis, type ReferenceLine, type StepChart } from "./step-chart.ts";

/** Metrics that are shares of the rows. */
const SHARE = /(accuracy|acc|exact_match)$/;

/** All charts over steps; a sentence where nothing is logged yet. */
export function renderCurves(history: History, record: JsonObject): Markup {
  const charts = chartsOf(history, record);
  if (charts.length === 0) return markup`<p class="none">Nothing is logged yet.</p>`;
  const axis = stepAxis(history.lastStep, history.lastEpoch);
  return markup`<div class="charts">${charts.map((chart, i) => renderStepChart(chart, axis, `chart-${i}`))}</div>`;
}

function chartsOf(history: History, record: JsonObject): StepChart[] {
  const { training, evaluations } = history;
  const numLabels = numberAt(record, "data", "numLabels") ?? 0;
  const task = textAt(record, "config", "task", "task") ?? "classification";
  const uniform: ReferenceLine[] =
    numLabels < 2 || task !== "classification"
      ? []
      : [{ value: Math.log(numLabels), name: `ln ${numLabels}: every class alike` }];
  const maxGradNorm = numberAt(record, "config", "training", "maxGradNorm") ?? 0;
  const charts: StepChart[] = [];

  const loss = pointsOf(training, "loss");
  const evalLoss = pointsOf(evaluations, "eval_loss");
  if (loss.length + evalLoss.length > 0) {
    charts.push({
      title: "Loss",
      lines: [
        ...(loss.length > 0 ? [{ name: "train", tone: "train", points: loss, smoothed: true } as const] : []),
        ...(evalLoss.length > 0 ? [{ name: "eval", tone: "eval", points: evalLoss } as const] : []),
      ],
      format: formatDecimal,
      rest: [lastOf(loss, formatDecimal, "train "), lastOf(evalLoss, formatDecimal, "eval ")]
        .filter(Boolean)
        .join(" · "),
      scale: "auto",
      references: uniform,
      wide: true,
    });
  }
  for (const key of metricKeys(evaluations)) {
    if (key !== "eval_loss") charts.push(metricChart(key, pointsOf(evaluations, key), uniform));
  }
  charts.push(
    ...trainingChart(history, "learning_rate", "Learning rate", formatRate, { scale: "zero", ticks: "rate" }),
    ...trainingChart(history, "grad_norm", "Gradient norm", formatDecimal, {
      scale: "auto",
      references: maxGradNorm > 0 ? [{ value: maxGradNorm, name: `clipped to ${maxGradNorm}` }] : [],
    }),
    ...trainingChart(history, "tokens_per_second", "Tokens per second", formatCount, { scale: "zero" }),
  );
  return charts;
}

function metricChart(key: string, points: readonly Point[], uniform: readonly ReferenceLine[]): StepChart {
  const format = metricFormat(key);
  const best = bestPoint(points, key);
  const bestText = best === undefined ? "" : `best ${format(best.value)} at step ${formatCount(best.step)}`;
  const title = metricTitle(key);
  return {
    title: `Eval ${title}`,
    lines: [{ name: `eval ${title}`, tone: "eval", points }],
    format,
    rest: [lastOf(points, format), bestText].filter(Boolean).join(" · "),
    scale: "linear",
    ticks: SHARE.test(key) ? "percent" : undefined,
    references: key === "eval_log_loss" ? uniform : [],
  };
}

/** No chart where no entry has the key. */
function trainingChart(
  history: History,
  key: string,
  title: string,
  format: NumberFormat,
  how: Pick<StepChart, "scale" | "ticks" | "references">,
): StepChart[] {
  const points = pointsOf(history.training, key);
  if (points.length === 0) return [];
  const lines = [{ name: capitalize(title), tone: "train", points, smoothed: key !== "learning_rate" } as const];
  return [{ title, lines, format, rest: lastOf(points, format), ...how }];
}

/** How a metric's values are written. */
export function metricFormat(key: string): NumberFormat {
  return SHARE.test(key) ? formatPercent : formatDecimal;
}

function lastOf(points: readonly Point[], format: NumberFormat, name = ""): string {
  const last = points.at(-1);
  return last === undefined ? "" : `${name}${name === "" ? "last " : ""}${format(last.value)}`;
}
