/** The last evaluation's rows: confusion matrix, classes, calibration. */
import type { EvaluationRecord } from "../folder/evaluation-record.ts";
import {
  classFigures,
  confusionMatrix,
  expectedCalibrationError,
  meanAndError,
  reliabilityBins,
  rowLosses,
  wilsonInterval,
  type ReliabilityBin,
} from "./evaluation-figures.ts";
import { countOf, formatCount, formatDecimal, formatError, formatPercent, number } from "./format.ts";
import { renderLengths } from "./length-view.ts";
import { markup, trusted, type Markup } from "./markup.ts";
import { linearScale } from "./scale.ts";
import { percent } from "./step-chart.ts";
import { scrollable } from "./tables.ts";

/** A matrix of more classes than this takes the whole row. */
const MANY_CLASSES = 6;

/** Matrix, classes, calibration and lengths of an evaluation. */
export function renderEvaluation(record: EvaluationRecord, names: readonly string[]): Markup {
  const rows = record.labels.length;
  const summary = `${countOf(rows, "row")} after step ${formatCount(record.step)}`;
  if (rows === 0) return markup`<p class="none">The evaluation at step ${formatCount(record.step)} had no rows.</p>`;
  return markup`
<p class="lead">${summary}. Log loss ${lossWithError(record)}, accuracy ${accuracyWithInterval(record)}.</p>
<div class="charts">
${renderConfusion(record, names)}
${renderClasses(record, names)}
${renderCalibration(reliabilityBins(record))}
${renderLengths(record)}
</div>`;
}

function lossWithError(record: EvaluationRecord): Markup {
  const { mean, error } = meanAndError(rowLosses(record));
  return markup`<b>${number(mean)}</b>${Number.isFinite(error) && markup` ± ${number(error, formatError)} (standard error)`}`;
}

function accuracyWithInterval(record: EvaluationRecord): Markup {
  const correct = classFigures(record).reduce((sum, figures) => sum + figures.correct, 0);
  const [low, high] = wilsonInterval(correct, record.labels.length);
  const share = correct / record.labels.length;
  return markup`<b>${number(share, formatPercent)}</b> (95\u00a0% interval ${formatPercent(low)} to ${formatPercent(high)})`;
}

function renderConfusion(record: EvaluationRecord, names: readonly string[]): Markup {
  const matrix = confusionMatrix(record);
  const head = names.map((name) => markup`<th scope="col" title="${name}">${name}</th>`);
  const width = trusted(`--columns:${names.length}`);
  const body = matrix.map((row, label) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count, predicted) => {
      const share = total === 0 ? 0 : count / total;
      // The row's shares as the strength of the shade; text stays readable at its strongest.
      const shade = trusted(`--share:${(share * 62).toFixed(1)}%`);
      return markup`<td class="cell${predicted === label && " hit"}" style="${shade}"><b>${formatCount(count)}</b><small>${formatPercent(share, 0)}</small></td>`;
    });
    return markup`<tr><th scope="row" title="${names[label]}">${names[label]}</th>${cells}<td class="sum">${formatCount(total)}</td></tr>`;
  });
  const table = markup`<table class="matrix" style="${width}">
<thead><tr><td><small>label ↓</small><small>predicted →</small></td>${head}<th scope="col" class="sum">rows</th></tr></thead>
<tbody>${body}</tbody></table>`;
  return markup`
<figure class="chart${names.length > MANY_CLASSES && " wide"}" aria-labelledby="confusion">
<figcaption><h3 id="confusion">Confusion matrix</h3><p class="readout">rows, and share of the label's rows</p></figcaption>
${scrollable("Confusion matrix", table)}
</figure>`;
}

function renderClasses(record: EvaluationRecord, names: readonly string[]): Markup {
  const rows = record.labels.length;
  const body = classFigures(record).map(
    (figures, label) => markup`<tr><th scope="row" title="${names[label]}">${names[label]}</th>
<td>${formatPercent(figures.rows / rows)}</td><td>${number(figures.meanProbability, formatPercent)}</td>
<td>${formatPercent(figures.correct / figures.predicted)}</td><td>${formatPercent(figures.correct / figures.rows)}</td>
<td>${figures.rows === 0 ? "–" : number(figures.logLoss)}</td></tr>`,
  );
  const table = markup`<table>
<thead><tr><th scope="col">class</th><th scope="col">share of labels</th><th scope="col">mean prob.</th><th scope="col">precision</th><th scope="col">recall</th><th scope="col">log loss</th></tr></thead>
<tbody>${body}</tbody></table>`;
  return markup`
<figure class="chart" aria-labelledby="classes">
<figcaption><h3 id="classes">Classes</h3><p class="readout">calibrated where mean probability is the share of labels</p></figcaption>
${scrollable("Classes", table)}
</figure>`;
}

function renderCalibration(bins: readonly ReliabilityBin[]): Markup {
  const error = expectedCalibrationError(bins);
  const filled = bins.filter((bin) => bin.count > 0);
  const most = Math.max(...filled.map((bin) => bin.count));
  const ticks = linearScale([0, 1], { count: 5 }).ticks;
  const label = `Reliability diagram. ${filled.map((bin) => `${rangeOf(bin)}: ${formatPercent(bin.correct / bin.count)} of ${bin.count} rows right.`).join(" ")}`;
  return markup`
<figure class="chart" aria-labelledby="calibration">
<figcaption><h3 id="calibration">Calibration</h3>
<p class="readout">expected calibration error ${number(error, formatError)}</p></figcaption>
<div class="plot tall">
<svg role="img" aria-label="${label}">
${ticks.map((tick) => markup`<line class="grid" x1="0" x2="100%" y1="${percent(1 - tick)}" y2="${percent(1 - tick)}"/><text class="tick" x="-8" y="${percent(1 - tick)}" dy=".34em" text-anchor="end">${formatPercent(tick, 0)}</text><text class="tick" x="${percent(tick)}" y="100%" dy="18" text-anchor="middle">${tick.toFixed(1)}</text>`)}
<text class="tick" x="0" y="0" dy="-9">rows right</text>
<text class="tick" x="100%" y="100%" dy="33" text-anchor="end">probability of the likeliest class</text>
<line class="reference" x1="0" x2="100%" y1="100%" y2="0"/>
${filled.map((bin) => countBar(bin, most))}
${filled.map(reliabilityPoint)}
</svg>
</div>
<p class="legend"><span><i class="swatch eval"></i>share right, with its 95&nbsp;% interval</span> <span><i class="swatch bar"></i>rows in the bin (most: ${formatCount(most)})</span> <span><i class="swatch reference"></i>perfect calibration</span></p>
<details><summary>Bins as a table</summary>${scrollable("Calibration bins", binTable(filled))}</details>
</figure>`;
}

/** Rows of a bin as a bar over the lowest fifth of the plot. */
function countBar(bin: ReliabilityBin, most: number): Markup {
  const height = (0.2 * bin.count) / most;
  return markup`<rect class="bar" x="${percent(bin.from + 0.005)}" width="${percent(bin.to - bin.from - 0.01)}" y="${percent(1 - height)}" height="${percent(height)}"><title>${rangeOf(bin)}: ${formatCount(bin.count)} rows</title></rect>`;
}

function reliabilityPoint(bin: ReliabilityBin): Markup {
  const share = bin.correct / bin.count;
  const [low, high] = wilsonInterval(bin.correct, bin.count);
  const x = percent(bin.confidence);
  return markup`<g><title>${rangeOf(bin)}: ${formatPercent(share)} of ${formatCount(bin.count)} rows right</title><line class="error eval" x1="${x}" x2="${x}" y1="${percent(1 - low)}" y2="${percent(1 - high)}"/><circle class="dot eval" cx="${x}" cy="${percent(1 - share)}" r="4"/></g>`;
}

function binTable(bins: readonly ReliabilityBin[]): Markup {
  const body = bins.map(
    (bin) => markup`<tr><th scope="row">${rangeOf(bin)}</th><td>${formatCount(bin.count)}</td>
<td>${number(bin.confidence)}</td><td>${number(bin.correct / bin.count)}</td></tr>`,
  );
  return markup`<table><thead><tr><th scope="col">probability</th><th scope="col">rows</th><th scope="col">mean probability</th><th scope="col">share right</th></tr></thead><tbody>${body}</tbody></table>`;
}

function rangeOf(bin: ReliabilityBin): string {
  return `${formatDecimal(bin.from, 1)} to ${formatDecimal(bin.to, 1)}`;
}
