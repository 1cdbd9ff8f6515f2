/**
 * A curve over optimizer steps as inline SVG. Lengths are percentages of the plot, so that text and strokes keep their
 * size at every width; lines lie in an inner SVG that stretches.
 */
import { formatCount, formatEpoch, type NumberFormat } from "./format.ts";
import { smooth, thin, type Point } from "./history.ts";
import { jsonScript, markup, type Markup } from "./markup.ts";
import { autoScale, linearScale, stepScale, type Scale, type TickStyle } from "./scale.ts";

/** A color by meaning. */
export type Tone = "train" | "eval";

/** One line of a chart. */
export interface ChartLine {
  readonly name: string;
  readonly tone: Tone;
  readonly points: readonly Point[];
  /** Draw the points faintly and a moving average over them, where there are enough. */
  readonly smoothed?: boolean;
}

/** A horizontal line that tells what a value means; left out where it lies far from the data. */
export interface ReferenceLine {
  readonly value: number;
  readonly name: string;
}

/** What a chart over steps shows. */
export interface StepChart {
  readonly title: string;
  readonly lines: readonly ChartLine[];
  readonly format: NumberFormat;
  /** What stands beside the title while nothing is pointed at. */
  readonly rest: string;
  readonly scale: "auto" | "linear" | "zero";
  readonly ticks?: TickStyle | undefined;
  readonly references?: readonly ReferenceLine[];
  /** Takes the whole row. */
  readonly wide?: boolean;
}

/** The steps that all charts of a report share. */
export interface StepAxis {
  readonly scale: Scale;
  /** Steps at which a whole number of epochs ends. */
  readonly epochs: readonly number[];
}

const MAX_POINTS = 1000;
/** Fewer points than this are not smoothed. */
const SMOOTH_FROM = 30;
/** A line of at most this many points shows each. */
const DOTS_UP_TO = 30;
const MAX_EPOCH_MARKS = 12;
/** Ticks of steps further right than this would run into the last step's own. */
const LAST_TICK = 0.78;

/** The axis of a run that has come to `lastStep`, `lastEpoch` epochs. */
export function stepAxis(lastStep: number, lastEpoch: number): StepAxis {
  const perEpoch = lastEpoch > 0 ? lastStep / lastEpoch : 0;
  const count = Math.floor(lastEpoch + 1e-6);
  const marks = count > MAX_EPOCH_MARKS || perEpoch === 0 ? 0 : count;
  const steps = Array.from({ length: marks }, (_, i) => (i + 1) * perEpoch);
  return { scale: stepScale(lastStep), epochs: steps.filter((step) => step < lastStep - 1e-6) };
}

/** A figure with title, legend, read-out and plot. */
export function renderStepChart(chart: StepChart, axis: StepAxis, id: string): Markup {
  const { title, lines, rest } = chart;
  const [scale, references] = chooseScale(chart);
  const drawn = lines.map((line) => ({ ...line, shown: thin(line.points, MAX_POINTS) }));
  const notes = legendOf(lines);
  return markup`
<figure class="chart${chart.wide === true && " wide"}" aria-labelledby="${id}">
<figcaption>
<h3 id="${id}">${title}${scale.kind === "log" && markup` <small>log scale</small>`}</h3>
<p class="readout">${rest}</p>
${notes.length > 0 && markup`<p class="legend">${notes}</p>`}
</figcaption>
<div class="plot" data-plot data-low="${axis.scale.low}" data-high="${axis.scale.high}">
<svg role="img" aria-label="${describe(chart)}">
${scale.ticks.map((tick) => yTick(tick, scale))}
${axis.scale.ticks.filter((tick) => axis.scale.position(tick) < LAST_TICK).map((tick) => xTick(tick, axis.scale))}
${axis.epochs.map((step, i) => epochMark(step, chart.wide === true && `epoch ${i + 1}`, axis.scale))}
<text class="tick" x="100%" y="100%" dy="18" text-anchor="end">step ${formatCount(axis.scale.high)}</text>
${references.map((reference) => referenceLine(reference, scale))}
<svg class="lines" viewBox="0 0 1000 1000" preserveAspectRatio="none">
${drawn.map((line) => paths(line, line.shown, axis.scale, scale))}
</svg>
${drawn.map((line) => dots(line, line.shown, axis.scale, scale))}
<line class="cursor" y1="0" y2="100%"/>
${lines.map((line) => markup`<circle class="cursor ${line.tone}" r="4"/>`)}
</svg>
<div class="scrub" tabindex="0" role="slider" aria-label="${title} by step" aria-valuemin="${axis.scale.low}" aria-valuemax="${axis.scale.high}" aria-valuenow="${axis.scale.high}" aria-valuetext="${rest}"></div>
<script type="application/json">${jsonScript(readings(chart, drawn, scale))}</script>
</div>
</figure>`;
}

function chooseScale(chart: StepChart): [Scale, readonly ReferenceLine[]] {
  const values = chart.lines.flatMap((line) => line.points.map((point) => point.value));
  const make = (all: readonly number[]): Scale =>
    chart.scale === "auto"
      ? autoScale(all)
      : linearScale(all, {
          zero: chart.scale === "zero",
          ...(chart.ticks === undefined ? {} : { ticks: chart.ticks }),
        });
  const alone = make(values);
  const isNear = ({ value }: ReferenceLine): boolean => {
    const position = alone.position(value);
    return position > -0.5 && position < 1.5;
  };
  const near = values.some(Number.isFinite) ? (chart.references ?? []).filter(isNear) : [];
  return near.length === 0 ? [alone, []] : [make([...values, ...near.map(({ value }) => value)]), near];
}

function isSmoothed(line: ChartLine): boolean {
  return line.smoothed === true && line.points.length >= SMOOTH_FROM;
}

/** Points over which a moving average looks back. */
function smoothingWindow(line: ChartLine): number {
  return Math.max(5, Math.round(line.points.length / 30));
}

/** What the lines are, where that is not plain from the title. */
function legendOf(lines: readonly ChartLine[]): Markup[] {
  const names = lines.map((line) => markup`<span><i class="swatch ${line.tone}"></i>${line.name}</span> `);
  const smoothed = lines.find(isSmoothed);
  const bad = lines.flatMap((line) => line.points).filter((point) => !Number.isFinite(point.value)).length;
  return [
    ...(lines.length > 1 ? names : []),
    ...(smoothed === undefined
      ? []
      : [markup`<span>faint: as logged; bold: average over about ${smoothingWindow(smoothed)} logs</span> `]),
    ...(bad === 0 ? [] : [markup`<span class="bad">× not finite: ${formatCount(bad)}</span>`]),
  ];
}

function yTick(tick: number, scale: Scale): Markup {
  const y = percent(1 - scale.position(tick));
  return markup`<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/><text class="tick" x="-8" y="${y}" dy=".34em" text-anchor="end">${scale.label(tick)}</text>`;
}

function xTick(tick: number, scale: Scale): Markup {
  const x = percent(scale.position(tick));
  return markup`<line class="axis" x1="${x}" x2="${x}" y1="100%" y2="100%" transform="translate(0 4)"/><text class="tick" x="${x}" y="100%" dy="18" text-anchor="middle">${scale.label(tick)}</text>`;
}

function epochMark(step: number, name: string | false, scale: Scale): Markup {
  const x = percent(scale.position(step));
  return markup`<line class="epoch" x1="${x}" x2="${x}" y1="0" y2="100%"/>${name !== false && markup`<text class="tick halo" x="${x}" y="0" dx="4" dy="10">${name}</text>`}`;
}

function referenceLine({ value, name }: ReferenceLine, scale: Scale): Markup {
  const position = scale.position(value);
  const y = percent(1 - position);
  // A label above a line at the very top would leave the plot.
  return markup`<line class="reference" x1="0" x2="100%" y1="${y}" y2="${y}"/><text class="tick halo" x="100%" y="${y}" dy="${position > 0.9 ? 14 : -5}" text-anchor="end">${name}</text>`;
}

function paths(line: ChartLine, shown: readonly Point[], x: Scale, y: Scale): Markup {
  const path = (points: readonly Point[], name: string): Markup =>
    markup`<path class="${name} ${line.tone}" d="${pathOf(points, x, y)}"/>`;
  if (!isSmoothed(line)) return path(shown, "line");
  const average = thin(averageOf(line, y.kind), MAX_POINTS);
  return markup`${path(shown, "line faint")}${path(average, "line")}`;
}

/** On a logarithmic axis the average is of the logProbabilities, so that it runs through the middle of what one sees. */
function averageOf(line: ChartLine, kind: Scale["kind"]): Point[] {
  const weight = 1 - 1 / smoothingWindow(line);
  if (kind === "linear") return smooth(line.points, weight);
  const map = (points: readonly Point[], f: (value: number) => number): Point[] =>
    points.map((point) => ({ ...point, value: f(point.value) }));
  return map(smooth(map(line.points, Math.log), weight), Math.exp);
}

/** A path that breaks where a value is not finite. */
function pathOf(points: readonly Point[], x: Scale, y: Scale): string {
  let pen = "M";
  return points
    .map((point) => {
      if (!Number.isFinite(point.value)) {
        pen = "M";
        return "";
      }
      const piece = `${pen}${round(x.position(point.step) * 1000)} ${round((1 - y.position(point.value)) * 1000)}`;
      pen = "L";
      return piece;
    })
    .join("");
}

function dots(line: ChartLine, shown: readonly Point[], x: Scale, y: Scale): Markup {
  const few = shown.length <= DOTS_UP_TO;
  return markup`${shown.map((point) => {
    const at = percent(x.position(point.step));
    if (!Number.isFinite(point.value))
      return markup`<text class="bad" x="${at}" y="0" dy="9" text-anchor="middle">×</text>`;
    return (
      few && markup`<circle class="dot ${line.tone}" cx="${at}" cy="${percent(1 - y.position(point.value))}" r="2.6"/>`
    );
  })}`;
}

/** What the read-out says at each step: [step, text, height of each line's point from the top, 0 to 1, or null]. */
function readings(
  chart: StepChart,
  lines: readonly (ChartLine & { readonly shown: readonly Point[] })[],
  scale: Scale,
): readonly (readonly [number, string, readonly (number | null)[]])[] {
  const byStep = new Map<number, (Point | undefined)[]>();
  lines.forEach((line, i) => {
    for (const point of line.shown) {
      const row = byStep.get(point.step) ?? lines.map(() => undefined);
      row[i] = point;
      byStep.set(point.step, row);
    }
  });
  const several = lines.length > 1;
  return [...byStep]
    .sort(([a], [b]) => a - b)
    .map(([step, points]) => {
      const values = points.flatMap((point, i) => {
        if (point === undefined) return [];
        return `${several ? `${lines[i]!.name} ` : ""}${chart.format(point.value)}`;
      });
      const epoch = formatEpoch(points.find((point) => point !== undefined)!.epoch);
      const text = [`step ${formatCount(step)}`, `epoch ${epoch}`, ...values].join(" · ");
      const heights = points.map((point) =>
        point === undefined || !Number.isFinite(point.value) ? null : round(1 - scale.position(point.value), 4),
      );
      return [step, text, heights];
    });
}

/** The chart in words, for those who cannot see it. */
function describe(chart: StepChart): string {
  const lines = chart.lines.map((line) => {
    const finite = line.points.filter((point) => Number.isFinite(point.value));
    const [first, last] = [finite[0], finite.at(-1)];
    if (first === undefined || last === undefined) return `${line.name}: nothing logged.`;
    const values = finite.map((point) => point.value);
    const span = `from ${chart.format(first.value)} at step ${first.step} to ${chart.format(last.value)} at step ${last.step}`;
    const extremes = `lowest ${chart.format(Math.min(...values))}, highest ${chart.format(Math.max(...values))}`;
    return `${line.name}: ${span}; ${extremes}.`;
  });
  return `${chart.title} by optimizer step. ${lines.join(" ")}`;
}

/** A share of the plot's width or height. */
export function percent(share: number): string {
  return `${round(share * 100, 3)}%`;
}

function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}
