/** The reporters of a run: all of them side by side, behind one small interface. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../core/formats/peft.ts";
import type { ReporterEntry, ReporterFile, ReporterPlugin, ReporterStatus } from "../../core/plugin/reporter.ts";
import type { RunListener } from "../events.ts";
import { EVENTS_FOLDER, RUN_FILES } from "../folder/folder.ts";
import type { Patience } from "./context.ts";
import { Deliveries } from "./deliveries.ts";
import { Delivery } from "./delivery.ts";

/** What is reported of which run. */
export interface ReportingOptions {
  readonly plugins: readonly ReporterPlugin[];
  readonly outputDir: string;
  /** `training.runName`; default: `outputDir`. */
  readonly runName: string | undefined;
  /** Folder of files that reporters write; default: `runs` in `outputDir`. */
  readonly loggingDir: string | undefined;
  readonly config: Readonly<Record<string, unknown>>;
  /** The run's log from its first entry on; it grows. */
  readonly entries: readonly ReporterEntry[];
  /** Step of the first entry that may come. */
  readonly firstStep: number;
  readonly onEvent: RunListener | undefined;
  /** What follows a reporter's first failure, in words. */
  readonly onFailure: (name: string) => string;
  readonly patience?: Patience | undefined;
  readonly cooldown?: number | undefined;
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** A run's reporters; none of their failures reaches the run. */
export interface Reporting {
  /** Says that the log has grown; returns at once. */
  wake(): void;
  /** Hands over everything, once; later calls do nothing. @returns names of the reporters that lack something */
  conclude(status: ReporterStatus): Promise<readonly string[]>;
}

/** Starts the reporters of a run, which waits for none of them. @throws ModelError where reporters.json is damaged */
export async function openReporting(options: ReportingOptions): Promise<Reporting> {
  const { plugins, outputDir, runName = outputDir, loggingDir = join(outputDir, EVENTS_FOLDER), onEvent } = options;
  const { config, entries, firstStep, patience, cooldown, env } = options;
  if (plugins.length === 0) return { wake() {}, conclude: async () => [] };
  const deliveries = await Deliveries.open(outputDir);
  const all = plugins.map((plugin) => ({
    name: plugin.name,
    delivery: new Delivery({
      plugin,
      run: { name: runName, config, firstStep },
      entries,
      deliveries,
      context: { folder: loggingDir, patience, env },
      onFailure: (problem) => onEvent?.({ type: "warning", message: `${problem}${options.onFailure(plugin.name)}` }),
      cooldown,
    }),
  }));
  const wake = (): void => {
    for (const { delivery } of all) delivery.wake();
  };
  let concluded = false;
  wake();
  return {
    wake,
    async conclude(status) {
      if (concluded) return [];
      concluded = true;
      const files = status === "finished" ? filesOf(outputDir) : [];
      await Promise.all(all.map(({ delivery }) => delivery.conclude(status, files)));
      return all.filter(({ delivery }) => !delivery.complete).map(({ name }) => name);
    },
  };
}

/** The files of a run that a reporter may take. */
function filesOf(outputDir: string): ReporterFile[] {
  const names = [
    [RUN_FILES.report, "report"],
    [ADAPTER_CONFIG_FILE, "adapter"],
    [ADAPTER_WEIGHTS_FILE, "adapter"],
  ] as const;
  return names
    .filter(([name]) => existsSync(join(outputDir, name)))
    .map(([name, type]) => ({
      name,
      type,
      read: async () => Uint8Array.from(await readFile(join(outputDir, name))),
    }));
}
