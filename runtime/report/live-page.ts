/** The report of a running run: the same parts as report.html, under a status line. */
import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { RUN_FILES } from "../folder/folder.ts";
import { countOf, formatCount } from "./format.ts";
import hoverScript from "./hover.client.js" with { type: "text" };
import liveScript from "./live.client.js" with { type: "text" };
import liveStyle from "./live.css" with { type: "text" };
import { markup } from "./markup.ts";
import { openMetricsTail } from "./metrics-tail.ts";
import { renderDocument, renderMain } from "./page.ts";
import { runState, type RunState } from "./run-state.ts";
import { numberAt, readReportRun, type ReportRun } from "./run.ts";

/** How things stand with what is watched: its run's state, or why there is nothing new to show. */
export interface LiveStatus {
  readonly state: RunState | "waiting" | "unreadable";
  readonly text: string;
}

/** What a live page shows. */
export interface LiveView {
  readonly title: string;
  /** The page's `<main>`. */
  readonly main: string;
  readonly status: LiveStatus;
}

const TEXTS: Readonly<Record<RunState, string>> = {
  running: "Live: what the run logs appears here.",
  finished: "This run is finished.",
  interrupted: "This run has stopped before its end; should it go on, so does this page.",
};

/** A log of very many lines takes long to draw: after such a view the next one waits for `REST` times as long. */
const LONG_MS = 200;
const REST = 10;

/** A reader of a run's folder that looks at the files only where they changed. */
export function openLiveView(outputDir: string): () => Promise<LiveView> {
  const name = basename(resolve(outputDir));
  const nothing = (text: string): string => markup`<main><h1>${name}</h1><p class="lead">${text}</p></main>`.text;
  let main = nothing("Not read yet.");
  let title = name;
  let signature = "";
  let run: ReportRun | undefined;
  let state: RunState | undefined;
  let problem: LiveStatus | undefined;
  const readHistory = openMetricsTail(join(outputDir, RUN_FILES.metrics));
  let rested = 0;

  const look = async (): Promise<LiveStatus> => {
    const now = await signatureOf(outputDir);
    if (now !== signature && performance.now() >= rested) {
      const start = performance.now();
      signature = now;
      [run, state, problem] = [undefined, undefined, undefined];
      run = await readReportRun(outputDir, readHistory);
      state = await runState(outputDir, run);
      [main, title] = [renderMain(run, state).text, titleOf(run)];
      const took = performance.now() - start;
      if (took > LONG_MS) rested = performance.now() + took * REST;
    }
    if (run === undefined) return problem!;
    const before = state;
    state = await runState(outputDir, run);
    if (state !== before) [main, title] = [renderMain(run, state).text, titleOf(run)];
    return { state, text: TEXTS[state] };
  };
  return async () => {
    try {
      return { status: await look(), title, main };
    } catch (error) {
      // Told on the page; what was shown before stays, unless the run itself is gone.
      problem = problemOf(error, outputDir);
      if (problem.state === "waiting") [main, title] = [nothing("No run here yet."), name];
      return { status: problem, title, main };
    }
  };
}

/** The whole page; `id` names the view for the stream of later ones. */
export function renderLivePage({ title, main, status }: LiveView, id: string): string {
  const { state, text } = status;
  return renderDocument({
    title,
    style: liveStyle,
    scripts: [hoverScript, liveScript],
    connects: true,
    body: markup`<p id="live" role="status" data-state="${state}" data-view="${id}"><i></i><span>${text}</span></p>
${{ kind: "markup", text: main }}`,
  });
}

function titleOf(run: ReportRun): string {
  const total = numberAt(run.record, "totalSteps");
  const lastStep = run.history.at(-1)?.step ?? 0;
  return `${run.name}: ${total === undefined ? countOf(lastStep, "step") : `step ${formatCount(lastStep)} of ${formatCount(total)}`}`;
}

function problemOf(error: unknown, outputDir: string): LiveStatus {
  if (error instanceof QloraError && error.code === "RUN_NOT_FOUND")
    return { state: "waiting", text: `Waiting for a run in ${outputDir}: there is no ${RUN_FILES.record} yet.` };
  return { state: "unreadable", text: error instanceof Error ? error.message : String(error) };
}

/** Size, time and identity of the files that the report is made of. */
async function signatureOf(outputDir: string): Promise<string> {
  const names = [RUN_FILES.record, RUN_FILES.metrics, RUN_FILES.evaluation, RUN_FILES.state];
  const parts = names.map(async (name) => {
    try {
      const { mtimeMs, size, ino } = await stat(join(outputDir, name));
      return `${mtimeMs}/${size}/${ino}`;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code; // reading the file tells what is wrong
    }
  });
  return (await Promise.all(parts)).join(" ");
}
