/** The last evaluation of a task without classes: errors of each output, F1 of each label, scores of pairs. */
import { pearsonCorrelation } from "../../core/util/correlation.ts";
import type { OutputsRecord } from "../folder/outputs-record.ts";
import { meanAndError, wilsonInterval } from "./evaluation-figures.ts";
import { countOf, formatCount, formatPercent, number } from "./format.ts";
import { markup, type Markup } from "./markup.ts";
import { scrollable } from "./tables.ts";

/** Figures of an evaluation as a table. */
export function renderOutputs(record: OutputsRecord): Markup {
  const { task, step, predictions } = record;
  const [rows, word] = [predictions.length, task === "reward" ? "pair" : "row"];
  if (rows === 0) return markup`<p class="none">The evaluation at step ${formatCount(step)} had no rows.</p>`;
  const table = { regression: regressionTable, "multi-label": labelTable, reward: pairTable }[task](record);
  return markup`
<p class="lead">${countOf(rows, word)} after step ${formatCount(step)}.</p>
${scrollable("Predictions", table)}`;
}

const column = (rows: OutputsRecord["targets"], i: number): number[] => rows.map((row) => row[i]!);
const mean = (values: readonly number[]): number => meanAndError(values).mean;

function nameOf({ labelNames, numLabels, task }: OutputsRecord, i: number): string {
  if (labelNames !== undefined) return labelNames[i]!;
  return task === "multi-label" ? `label ${i}` : numLabels === 1 ? "score" : `score ${i}`;
}

const outputs = ({ numLabels }: OutputsRecord): number[] => Array.from({ length: numLabels }, (_, i) => i);

function regressionTable(record: OutputsRecord): Markup {
  const body = outputs(record).map((i) => {
    const [wanted, got] = [column(record.targets, i), column(record.predictions, i)];
    const errors = got.map((value, row) => value - wanted[row]!);
    return markup`<tr><th scope="row">${nameOf(record, i)}</th><td>${number(mean(wanted))}</td><td>${number(mean(got))}</td>
<td>${number(mean(errors.map(Math.abs)))}</td><td>${number(Math.sqrt(mean(errors.map((error) => error ** 2))))}</td>
<td>${number(pearsonCorrelation(got, wanted))}</td></tr>`;
  });
  return markup`<table>
<thead><tr><th scope="col">output</th><th scope="col">mean target</th><th scope="col">mean prediction</th><th scope="col">mean absolute error</th><th scope="col">root mean squared error</th><th scope="col">Pearson</th></tr></thead>
<tbody>${body}</tbody></table>`;
}

/** From this probability on a label counts as predicted. */
const THRESHOLD = 0.5;

function labelTable(record: OutputsRecord): Markup {
  const body = outputs(record).map((i) => {
    const [is, p] = [column(record.targets, i), column(record.predictions, i)];
    const there = is.filter((value) => value === 1).length;
    const predicted = p.filter((value) => value >= THRESHOLD).length;
    const hits = p.filter((value, row) => value >= THRESHOLD && is[row] === 1).length;
    return markup`<tr><th scope="row">${nameOf(record, i)}</th><td>${formatPercent(there / is.length)}</td><td>${number(mean(p), formatPercent)}</td>
<td>${formatPercent(hits / predicted)}</td><td>${formatPercent(hits / there)}</td><td>${number((2 * hits) / (predicted + there))}</td></tr>`;
  });
  return markup`<table>
<thead><tr><th scope="col">label</th><th scope="col">share of rows</th><th scope="col">mean prob.</th><th scope="col">precision</th><th scope="col">recall</th><th scope="col">F1 at ${String(THRESHOLD)}</th></tr></thead>
<tbody>${body}</tbody></table>`;
}

function pairTable({ predictions }: OutputsRecord): Markup {
  const right = predictions.filter(([chosen, rejected]) => chosen! > rejected!).length;
  const [low, high] = wilsonInterval(right, predictions.length);
  return markup`<table>
<thead><tr><th scope="col">chosen scored higher</th><th scope="col">95&nbsp;% interval</th><th scope="col">mean margin</th><th scope="col">mean score, chosen</th><th scope="col">mean score, rejected</th></tr></thead>
<tbody><tr><td>${formatPercent(right / predictions.length)}</td><td>${formatPercent(low)} to ${formatPercent(high)}</td>
<td>${number(mean(predictions.map(([chosen, rejected]) => chosen! - rejected!)))}</td><td>${number(mean(column(predictions, 0)))}</td><td>${number(mean(column(predictions, 1)))}</td></tr></tbody></table>`;
}
