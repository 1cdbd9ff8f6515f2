import type { ReporterPlugin } from "../../core/plugin/reporter.ts";
import type { CommandData } from "../command.ts";
import { notes, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";
import { reportersOf } from "../reporter-flags.ts";

interface SyncFlags {
  readonly run: string;
  readonly reportTo: string | undefined;
  readonly trustRemoteCode: boolean;
  readonly json: boolean;
}

/** Sends a run to its trackers, or to those named. */
export async function sync({ services, values }: CommandData, flags: SyncFlags): Promise<void> {
  const { run, trustRemoteCode, json } = flags;
  const given = flags.reportTo === undefined ? undefined : ["--report-to", flags.reportTo];
  const reportTo: readonly ReporterPlugin[] | undefined =
    given && (await reportersOf(given, services)).map(({ configure }) => configure(values));
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await sdk
    .syncRun(run, { reportTo, trustRemoteCode, onEvent: progress.listen })
    .finally(() => progress.end());
  if (json) return writeJson(result);
  for (const name of result.sent) notes.info(`${name} has all of ${run} now`);
  for (const name of result.before) notes.info(`${name} had all of ${run} already`);
}
