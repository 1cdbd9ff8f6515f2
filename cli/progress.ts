/** Progress on stderr: one line that is rewritten on a terminal, plain lines elsewhere. */
import { formatGib } from "../core/util/byte-size.ts";
import type { EvalEvent, LogEvent, ProgressEvent, RunEvent, RunListener, StepEvent } from "../runtime/events.ts";

export interface Progress {
  readonly listen: RunListener;
  /** Leaves the last line standing. */
  readonly end: () => void;
}

/** Where lines go; a terminal's `isTTY` is true. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const REDRAW_MS = 100;
/** Between lines of progress where no line can be rewritten. */
const PLAIN_MS = 10_000;

/** Makes a listener for a run's events. `now` is in milliseconds. */
export function createProgress(
  stream: ProgressStream = process.stderr,
  now: () => number = () => performance.now(),
): Progress {
  const live = stream.isTTY === true;
  const start = now();
  let firstStep: { readonly step: number; readonly at: number } | undefined;
  let drawn = false;
  let drawnAt = -Infinity;
  let work: { readonly what: string; readonly from: number; readonly at: number } | undefined;
  let toldAt = start;

  const clear = (): void => {
    if (drawn) stream.write("\r\u001B[K");
    drawn = false;
  };
  const line = (text: string): void => {
    clear();
    stream.write(`${text}\n`);
  };
  const draw = (text: string, last: boolean): void => {
    if (!live || (!last && now() - drawnAt < REDRAW_MS)) return;
    drawnAt = now();
    stream.write(`\r\u001B[K${text.slice(0, (stream.columns ?? 80) - 1)}`);
    drawn = true;
  };
  const eta = (event: StepEvent | LogEvent): string => {
    firstStep ??= { step: event.step, at: now() };
    const done = event.step - firstStep.step; // the first step compiles kernels: it says nothing about the rest
    if (done === 0) return "?";
    return clock(((now() - firstStep.at) / done) * (event.totalSteps - event.step));
  };

  const progress = (event: ProgressEvent): void => {
    if (work?.what !== event.what || event.done < work.from) work = { what: event.what, from: event.done, at: now() };
    const [done, took] = [event.done - work.from, now() - work.at];
    const left = done > 0 && took >= 1000 ? `  ETA ${clock((took / done) * (event.total - event.done))}` : "";
    const text = `${event.what} ${progressText(event)}${event.done === event.total ? "" : left}`;
    draw(text, event.done === event.total);
    if (live || now() - toldAt < PLAIN_MS) return;
    toldAt = now();
    line(text);
  };

  const listen: RunListener = (event: RunEvent) => {
    switch (event.type) {
      case "step":
        draw(`${stepText(event)}  ETA ${eta(event)}  ${formatGib(event.memoryBytes)}`, event.step === event.totalSteps);
        break;
      case "log":
        line(
          `${stepText(event)}  grad norm ${short(event.gradNorm)}  ETA ${eta(event)}  ${formatGib(event.memoryBytes)}`,
        );
        if (event.skippedSteps > 0) line(`warning: ${event.skippedSteps} steps skipped: a gradient was not finite`);
        break;
      case "progress":
        progress(event);
        break;
      case "eval":
        line(evalText(event));
        break;
      case "save":
        line(`step ${event.step}: saved ${event.path}`);
        break;
      case "info":
        line(event.message);
        break;
      case "warning":
        line(`warning: ${event.message}`);
        break;
    }
  };
  return {
    listen,
    end() {
      if (drawn) stream.write("\n");
      drawn = false;
      if (firstStep !== undefined) line(`done in ${clock(now() - start)}`);
    },
  };
}

function stepText(event: StepEvent | LogEvent): string {
  const { step, totalSteps, epoch, loss, learningRate, samplesPerSecond, tokensPerSecond } = event;
  const parts = [
    `step ${step}/${totalSteps}`,
    `epoch ${epoch.toFixed(2)}`,
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(4)}`]),
    `lr ${learningRate.toExponential(2)}`,
    `${short(samplesPerSecond)} samples/s`,
    `${short(tokensPerSecond)} tokens/s`,
  ];
  return parts.join("  ");
}

function progressText({ done, total, unit }: ProgressEvent): string {
  if (unit === undefined) return `${done}/${total}`;
  const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
  return `${percent}% of ${total < 2 ** 30 ? `${Math.ceil(total / 2 ** 20)} MiB` : formatGib(total)}`;
}

function evalText({ step, metrics, seconds }: EvalEvent): string {
  const parts = Object.entries(metrics).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  return [`step ${step}: evaluated in ${clock(seconds * 1000)}`, ...parts].join("  ");
}

/** Three significant digits, or whole where the number is larger. */
const short = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** Milliseconds as `1:02:03` or `2:03`. */
function clock(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const two = (value: number): string => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
