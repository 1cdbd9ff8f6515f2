/** Tables of a report: evaluations, the training log, and JSON laid flat. */
import { isObject } from "../../core/formats/json-object.ts";
import type { LogEntry } from "../folder/trainer-state.ts";
import { metricFormat } from "./curves.ts";
import {
  formatCount,
  formatDecimal,
  formatEpoch,
  formatRate,
  formatSeconds,
  metricTitle,
  number,
  type NumberFormat,
} from "./format.ts";
import { bestPoint, metricKeys, pointsOf } from "./history.ts";
import { markup, type Content, type Markup } from "./markup.ts";

/** A table of more rows than this shows every n-th. */
const MAX_ROWS = 500;

const TRAINING_COLUMNS: readonly (readonly [key: string, title: string, format: NumberFormat])[] = [
  ["loss", "loss", formatDecimal],
  ["grad_norm", "gradient norm", formatDecimal],
  ["learning_rate", "learning rate", formatRate],
  ["tokens_per_second", "tokens/s", formatCount],
  ["skipped_steps", "skipped", formatCount],
];

/** A box that scrolls sideways where its table is wider than the page, reachable by keyboard. */
export function scrollable(label: string, table: Markup): Markup {
  return markup`<div class="scroll" role="region" aria-label="${label}" tabindex="0">${table}</div>`;
}

/** All evaluations, the best value of each metric marked; a sentence where there are none. */
export function renderEvaluations(evaluations: readonly LogEntry[], strategy: string | undefined): Markup {
  if (evaluations.length === 0) {
    const why = strategy === "no" ? " evalStrategy is “no”." : "";
    return markup`<p class="none">No evaluation so far.${why}</p>`;
  }
  const keys = metricKeys(evaluations);
  const best = new Map(keys.map((key) => [key, bestPoint(pointsOf(evaluations, key), key)]));
  const speed = ["eval_runtime", "eval_samples_per_second"].filter((key) => evaluations.some((entry) => key in entry));
  const head = [...keys, ...speed].map(
    (key) => markup`<th scope="col">${metricTitle(key).replace(" per second", "/s")}</th>`,
  );
  const rows = evaluations.map((entry) => {
    const metrics = keys.map((key) => {
      const isBest = evaluations.length > 1 && best.get(key)?.step === entry.step;
      const value = cell(entry[key], metricFormat(key));
      return markup`<td>${isBest ? markup`<b class="best">${value}</b>` : value}</td>`;
    });
    const runs = speed.map(
      (key) =>
        markup`<td>${cell(entry[key], key === "eval_runtime" ? formatSeconds : (value) => formatDecimal(value, 1))}</td>`,
    );
    return markup`<tr>${position(entry)}${metrics}${runs}</tr>`;
  });
  const note =
    evaluations.length > 1 && markup`<p class="legend"><b class="best">marked</b> is the best of each metric</p>`;
  return markup`${scrollable("Evaluations", markup`<table><thead><tr><th scope="col">step</th><th scope="col">epoch</th>${head}</tr></thead><tbody>${rows}</tbody></table>`)}${note}`;
}

/** The entries of the training log, folded away. */
export function renderTrainingLog(training: readonly LogEntry[]): Markup | undefined {
  if (training.length === 0) return undefined;
  const every = Math.ceil(training.length / MAX_ROWS);
  const shown = training.filter((_, i) => i % every === 0 || i === training.length - 1);
  const columns = TRAINING_COLUMNS.filter(([key]) => training.some((entry) => key in entry));
  const head = columns.map(([, title]) => markup`<th scope="col">${title}</th>`);
  const rows = shown.map((entry) => {
    const cells = columns.map(([key, , format]) => markup`<td>${cell(entry[key], format)}</td>`);
    return markup`<tr>${position(entry)}${cells}</tr>`;
  });
  const note = every === 1 ? "" : `, every ${every}th shown; metrics.jsonl has them all`;
  return markup`<details class="log"><summary>Training log <small>${training.length === 1 ? "1 entry" : `${formatCount(training.length)} entries`}${note}</small></summary>
${scrollable("Training log", markup`<table><thead><tr><th scope="col">step</th><th scope="col">epoch</th>${head}</tr></thead><tbody>${rows}</tbody></table>`)}</details>`;
}

/** A value of JSON as a folded list of paths and values. */
export function renderJson(title: string, value: unknown, note: Content = ""): Markup | undefined {
  const pairs = flatten(value);
  if (pairs.length === 0) return undefined;
  const body = pairs.map(([path, text]) => markup`<div><dt>${path}</dt><dd>${text}</dd></div>`);
  return markup`<details><summary>${title} <small>${note}</small></summary><dl class="pairs">${body}</dl></details>`;
}

/** `{ a: { b: 1 }, c: [2, 3], d: [{ e: 4 }] }` as `a.b` 1, `c` 2, 3, `d[0]` e 4. */
export function flatten(value: unknown, path = ""): [path: string, text: string][] {
  if (value === undefined) return [];
  if (isObject(value)) {
    return Object.entries(value).flatMap(([key, inner]) => flatten(inner, path === "" ? key : `${path}.${key}`));
  }
  if (!Array.isArray(value)) return [[path, plain(value)]];
  if (!value.some((item) => typeof item === "object" && item !== null)) {
    return [[path, value.length === 0 ? "none" : value.map(plain).join(", ")]];
  }
  return value.map((item, i): [string, string] => {
    const parts = flatten(item).map(([key, text]) => `${key} ${text}`.trim());
    return [`${path}[${i}]`, parts.join(", ")];
  });
}

function plain(value: unknown): string {
  if (value === null) return "none";
  return typeof value === "string" ? value || "(empty)" : JSON.stringify(value);
}

function cell(value: number | undefined, format: NumberFormat): Content {
  return value === undefined ? "–" : number(value, format);
}

function position(entry: LogEntry): Markup {
  return markup`<th scope="row">${number(entry.step, formatCount)}</th><td>${formatEpoch(entry.epoch)}</td>`;
}
