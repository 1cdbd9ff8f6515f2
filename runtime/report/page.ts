/** The page around a report's parts. Everything lies in the file, and its policy forbids the browser to fetch anything. */
import { createHash } from "node:crypto";
import { findFormat } from "../data/formats/index.ts";
import { renderCurves } from "./curves.ts";
import { renderEvaluation } from "./evaluation-view.ts";
import { renderOutputs } from "./outputs-view.ts";
import { splitHistory } from "./history.ts";
import hoverScript from "./hover.client.js" with { type: "text" };
import { markup, trusted, type Markup } from "./markup.ts";
import stylesheet from "./report.css" with { type: "text" };
import type { RunState } from "./run-state.ts";
import { at, textAt, type ReportRun } from "./run.ts";
import { renderSummary } from "./summary.ts";
import { renderEvaluations, renderJson, renderTrainingLog } from "./tables.ts";

/** What a page is made of. */
export interface PageParts {
  readonly title: string;
  readonly body: Markup;
  /** Rules beside the report's own. */
  readonly style?: string;
  readonly scripts: readonly string[];
  /** The scripts may talk to the server that the page came from. */
  readonly connects?: boolean;
}

/** The whole page as text. */
export function renderReport(run: ReportRun): string {
  return renderDocument({ title: `${run.name}: training report`, body: renderMain(run), scripts: [hoverScript] });
}

/** A page that holds all it needs, and a policy that forbids the browser to fetch anything else. */
export function renderDocument({ title, body, style = "", scripts, connects = false }: PageParts): string {
  const hashes = scripts.map((script) => `'sha256-${createHash("sha256").update(script).digest("base64")}'`);
  const policy = [
    "default-src 'none'",
    "img-src data:",
    "style-src 'unsafe-inline'",
    `script-src ${hashes.join(" ")}`,
    ...(connects ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const page = markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>
${trusted(stylesheet)}${trusted(style)}</style>
</head>
<body>
${body}
${scripts.map((script) => markup`<script>${trusted(script)}</script>`)}
</body>
</html>
`;
  return page.text;
}

/** The content of the page; `state` where more is known of the run than its files say. */
export function renderMain(run: ReportRun, state?: RunState): Markup {
  const { record, evaluation, outputs } = run;
  const history = splitHistory(run.history);
  const config = record["config"];
  const version = textAt(record, "qlora");
  return markup`<main>
${renderSummary(run, history, state)}
<section aria-labelledby="training"><h2 id="training">Training</h2>
${renderCurves(history, record)}
${renderTrainingLog(history.training)}
</section>
<section aria-labelledby="evaluations"><h2 id="evaluations">Evaluations</h2>
${renderEvaluations(history.evaluations, textAt(config, "training", "evalStrategy"))}
</section>
${
  evaluation !== undefined &&
  markup`<section aria-labelledby="predictions"><h2 id="predictions">Predictions of the last evaluation</h2>
${renderEvaluation(evaluation, evaluation.labelNames ?? classNames(record, evaluation.numLabels))}
</section>`
}
${
  outputs !== undefined &&
  markup`<section aria-labelledby="predictions"><h2 id="predictions">Predictions of the last evaluation</h2>
${renderOutputs(outputs)}
</section>`
}
${renderSetup(record)}
<footer><p>${version === undefined ? "qlora" : `qlora ${version}`} · from run.json and metrics.jsonl in this folder</p></footer>
</main>`;
}

/** Config, device, data and versions; nothing where run.json says nothing. */
function renderSetup(record: ReportRun["record"]): Markup | undefined {
  const version = textAt(record, "qlora");
  const parts = [
    renderJson("Config", record["config"], "every option, defaults included"),
    renderJson("Device", record["device"], deviceNote(record["device"])),
    renderJson("Model and data", pick(record, ["model", "data", "trainableParameters", "totalSteps"])),
    renderJson("Versions", versionsOf(record), version !== undefined && `qlora ${version}`),
  ].filter((part) => part !== undefined);
  if (parts.length === 0) return undefined;
  return markup`<section aria-labelledby="setup"><h2 id="setup">Set-up</h2>
${parts}
</section>`;
}

function classNames(record: ReportRun["record"], numLabels: number): readonly string[] {
  const names = findFormat(at(record, "config", "data", "format"))?.classes?.names;
  return names?.length === numLabels ? names : Array.from({ length: numLabels }, (_, i) => `class ${i}`);
}

function deviceNote(device: unknown): string {
  const parts = [textAt(device, "adapter", "description"), textAt(device, "tier")];
  return parts.filter((part) => part !== undefined).join(", ");
}

const SHOWN_ELSEWHERE = new Set(["config", "device", "model", "data", "trainableParameters", "totalSteps"]);

/** Whatever else run.json says: versions, times. */
function versionsOf(record: ReportRun["record"]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => !SHOWN_ELSEWHERE.has(key)));
}

function pick(record: ReportRun["record"], keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(keys.filter((key) => key in record).map((key) => [key, record[key]]));
}
