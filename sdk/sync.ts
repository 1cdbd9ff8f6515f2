/** Sends a run that is in its folder to trackers: what they did not get while it trained, or all of it to another. */
import { join } from "node:path";
import { ConfigError, QloraError } from "../core/errors.ts";
import { isObject } from "../core/formats/json-object.ts";
import { defineRequest } from "../core/options/request.ts";
import { isPlugin } from "../core/plugin/factory.ts";
import type { ReporterPlugin } from "../core/plugin/reporter.ts";
import { resolveRecorded } from "../runtime/config/recorded.ts";
import { hasEnded } from "../runtime/folder/ended.ts";
import { lockRunFolder, RUN_FILES } from "../runtime/folder/folder.ts";
import { Deliveries } from "../runtime/reporting/deliveries.ts";
import { openReporting } from "../runtime/reporting/index.ts";
import { readReportRun } from "../runtime/report/run.ts";
import type { EventOptions } from "../runtime/run/train-types.ts";
import { resolveContext } from "./shipped.ts";

/** How a run is sent. */
export interface SyncOptions extends EventOptions {
  /** Reporters to send to; default: those of the run's config. */
  readonly reportTo?: readonly ReporterPlugin[] | undefined;
  /** Run the code of a reporter that the run's record names by a file. */
  readonly trustRemoteCode?: boolean | undefined;
}

/** What became of each reporter. */
export interface SyncResult {
  readonly outputDir: string;
  /** They have all of it now. */
  readonly sent: readonly string[];
  /** They had all of it before. */
  readonly before: readonly string[];
}

const checkOptions = defineRequest<SyncOptions>("syncRun", {
  onEvent: "Function?",
  reportTo: "object[]?",
  trustRemoteCode: "boolean?",
});

/**
 * Sends a run's log, and the files of a finished one, to its reporters or to those given; each entry once.
 * @throws ConfigError where there is no reporter; QloraError SYNC_FAILED where one does not take it, RUN_NOT_FOUND
 * @example
 * const { sent } = await syncRun(run, { reportTo: [tensorboard()] }); // ["tensorboard"]
 */
export async function syncRun(outputDir: string, options: SyncOptions = {}): Promise<SyncResult> {
  const { onEvent, reportTo, trustRemoteCode = false } = checkOptions(options);
  const { record, history } = await readReportRun(outputDir);
  await using _lock = await lockRunFolder(outputDir);
  const config = isObject(record["config"]) ? record["config"] : {};
  const plugins = reportTo ?? (await recordedReporters(config, outputDir, trustRemoteCode));
  requireReporters(plugins, outputDir);
  const deliveries = await Deliveries.open(outputDir);
  const ended = await hasEnded(outputDir);
  const has = ({ name }: ReporterPlugin): boolean => {
    const delivered = deliveries.get(name);
    return delivered !== undefined && delivered.entries >= history.length && (delivered.finished || !ended);
  };
  const { runName, loggingDir } = isObject(config["training"]) ? config["training"] : {};
  const failures: string[] = [];
  const reporting = await openReporting({
    plugins: plugins.filter((plugin) => !has(plugin)),
    outputDir,
    runName: typeof runName === "string" ? runName : undefined,
    loggingDir: typeof loggingDir === "string" ? loggingDir : undefined,
    config,
    entries: history,
    firstStep: 1,
    onFailure: () => "",
    onEvent: (event) => {
      if (event.type === "warning") failures.push(event.message);
      else onEvent?.(event);
    },
  });
  await reporting.conclude(ended ? "finished" : "interrupted");
  if (failures.length > 0) {
    throw new QloraError("SYNC_FAILED", failures.join("\n"), {
      hint: "What was taken is noted: the same command goes on from there.",
    });
  }
  const before = plugins.filter(has).map(({ name }) => name);
  const names = plugins.map(({ name }) => name);
  return { outputDir, sent: names.filter((name) => !before.includes(name)), before };
}

function requireReporters(plugins: readonly unknown[], outputDir: string): void {
  if (plugins.length > 0 && plugins.every((plugin) => isPlugin(plugin, "reporter"))) return;
  const got = plugins.length === 0 ? "none" : "something else";
  throw new ConfigError("SYNC_REPORTERS", `reportTo: got ${got} for ${outputDir}, expected a reporter`, {
    hint: "Name one: --report-to wandb, or syncRun(run, { reportTo: [wandb()] }).",
  });
}

/** The reporters of a run's config. */
async function recordedReporters(
  { reportTo }: Readonly<Record<string, unknown>>,
  run: string,
  trust: boolean,
): Promise<ReporterPlugin[]> {
  const named = Array.isArray(reportTo) ? (reportTo as readonly unknown[]) : [];
  return Promise.all(
    named.map(async (entry) => {
      if (!isObject(entry)) {
        throw new QloraError(
          "RUN_RECORD_INVALID",
          `${join(run, RUN_FILES.record)}: config.reportTo holds no reporters`,
          {
            hint: "Name them: --report-to wandb.",
          },
        );
      }
      const factory = await resolveRecorded("reporter", entry, { ...resolveContext(), run, trust });
      return factory.configure(entry["options"] ?? {}) as ReporterPlugin;
    }),
  );
}
