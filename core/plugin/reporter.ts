/** The reporter: where a run's numbers go besides its folder, what it gets, and `defineReporter`, which declares one. */
import type { OptionShape } from "../options/options.ts";
import { type Parts, complete } from "./check.ts";
import { definePlugin, type Plugin, type PluginDefinition, type TypedPluginFactory } from "./factory.ts";

/** One entry of a run's log: `step`, `epoch` and numbers under transformers' names (`loss`, `eval_log_loss`). */
export type ReporterEntry = Readonly<Record<string, number>> & { readonly step: number };

/** How a run ended. */
export type ReporterStatus = "finished" | "interrupted" | "failed";

/** JSON that a reporter keeps beside the run, such as the tracker's id of it; no secrets. */
export type ReporterState = Readonly<Record<string, unknown>>;

/** The run that is reported. */
export interface ReporterRun {
  /** `training.runName`, else the run's folder as the config names it. */
  readonly name: string;
  /** The config as plain JSON, as run.json has it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Step of the first entry that may come: 1, or more where the run goes on from a checkpoint. */
  readonly firstStep: number;
  /** What `start` gave when this run was reported before, by an earlier start or by one that was cut off. */
  readonly before: ReporterState | undefined;
}

/** A file of the run. */
export interface ReporterFile {
  /** In the run's folder: `report.html`, `adapter_model.safetensors`. */
  readonly name: string;
  readonly type: "report" | "adapter";
  readonly read: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** A request to a tracker's server. */
export interface ReporterRequest {
  /** Default: POST with a body, else GET. */
  readonly method?: "GET" | "POST" | "PUT" | "PATCH";
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as application/json; NaN and infinities as the words `NaN`, `Infinity`, `-Infinity`. */
  readonly json?: unknown;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Statuses of 400 and above that are an answer, not a failure. */
  readonly expect?: readonly number[];
}

/** An answer, read to its end. */
export interface ReporterAnswer {
  readonly status: number;
  readonly text: string;
  /** @throws PluginError where the answer is no JSON */
  json(): unknown;
}

/** A file that a reporter writes. */
export interface ReporterOutput {
  readonly path: string;
  append(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** What a reporter gets: the network, the environment and a folder, none of which core knows by itself. */
export interface ReporterContext {
  /**
   * Asks a server; what may pass by itself is tried again, a redirect is refused, and no message holds a secret.
   * @throws PluginError saying which host answered what
   */
  readonly request: (url: string, request?: ReporterRequest) => Promise<ReporterAnswer>;
  /** An environment variable, undefined where it is empty. */
  readonly env: (name: string) => string | undefined;
  /** The same for a key: it is struck from every message, and withheld where a .env file of the folder says where it goes. */
  readonly secret: (name: string) => string | undefined;
  /** Names in the reporter's folder, `training.loggingDir` or `runs` in the run's. */
  readonly files: () => Promise<readonly string[]>;
  /** A new file in that folder. */
  readonly createFile: (name: string) => Promise<ReporterOutput>;
  /** Tells this process from others that write the same folder: host and process id. */
  readonly processName: string;
  /** Seconds since 1970. */
  readonly now: () => number;
}

/**
 * Takes a run's log elsewhere. Its calls come one at a time, in order, beside the training, which waits for none but the last; where one
 * throws, the run goes on, says so once, and what was not taken comes again.
 */
export interface Reporter {
  /** Finds or makes the run. @returns what to keep for the next start, if anything */
  start(run: ReporterRun): Promise<ReporterState | undefined>;
  /**
   * Takes entries of the log.
   * @param entries one or more, in order
   * @param at number of entries before them since the run's first step; of those from there on, earlier ones are void
   */
  log(entries: readonly ReporterEntry[], at: number): Promise<void>;
  /** Takes a file of the finished run, or leaves it. */
  artefact(file: ReporterFile): Promise<void>;
  /** The last call. */
  finish(status: ReporterStatus): Promise<void>;
}

/** A configured reporter, as a config holds it. */
export type ReporterPlugin = Plugin<"reporter", readonly [ReporterContext], Reporter>;

/**
 * Declares a reporter.
 * @example
 * export const webhook = defineReporter({
 *   name: "webhook",
 *   options: defineOptions({ url: option("string", { help: "gets every entry of the log as JSON" }) }),
 *   create: ({ url }, { request }) => ({
 *     start: async () => undefined,
 *     log: async (entries) => void (await request(url, { json: entries })),
 *     artefact: async () => {},
 *     finish: async () => {},
 *   }),
 * });
 */
export function defineReporter<const S extends OptionShape>(
  definition: PluginDefinition<S, readonly [ReporterContext], Reporter>,
): TypedPluginFactory<"reporter", S, readonly [ReporterContext], Reporter> {
  return definePlugin("reporter", definition, { complete: completeReporter });
}

const REPORTER: Parts<Reporter> = { start: "function", log: "function", artefact: "function", finish: "function" };

/** @throws PluginError */
const completeReporter = (name: string, made: Reporter): Reporter =>
  complete(made, REPORTER, { kind: "reporter", name, method: "create" });

/**
 * An entry's numbers as transformers gives them to trackers: `loss` as `train/loss`, `eval_loss` as `eval/loss`; `step` is left
 * out. Source: transformers, `rewrite_logs`.
 * @example rewriteLogs({ step: 3, loss: 0.5, eval_loss: 0.7 }); // { "train/loss": 0.5, "eval/loss": 0.7 }
 */
export function rewriteLogs(entry: ReporterEntry): Readonly<Record<string, number>> {
  const values = Object.entries(entry).filter(([key]) => key !== "step");
  return Object.fromEntries(
    values.map(([key, value]) => [
      key.startsWith("eval_") ? `eval/${key.slice("eval_".length)}` : `train/${key}`,
      value,
    ]),
  );
}
