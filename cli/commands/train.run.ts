import { ConfigError } from "../../core/errors.ts";
import { configToJson, type Config } from "../../runtime/config/config.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, interruptible } from "../interrupt.ts";
import { columns, notes, thousands, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";
import type { Sdk } from "../sdk.ts";

interface TrainFlags {
  readonly printConfig: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Trains; the first SIGINT finishes the step and saves, the second leaves at once. */
export async function train({ services, config }: CommandData, flags: TrainFlags): Promise<number> {
  const resolved = config!;
  if (flags.printConfig) {
    await writeJson(configToJson(resolved));
    return 0;
  }
  if (resolved.data.trainFiles.length === 0) {
    throw new ConfigError("CONFIG_INVALID", "data.trainFiles: got nothing, expected at least one file", {
      hint: "Give --train-files a.csv,b.csv, or data.trainFiles in the config file.",
    });
  }
  const sdk = await services.sdk();
  return flags.dryRun ? dryRun(sdk, resolved, flags.json) : run(sdk, resolved, flags.json);
}

async function dryRun(sdk: Sdk, config: Config, json: boolean): Promise<number> {
  const result = await sdk.dryRun(config);
  if (json) await writeJson(result);
  else {
    const rows = Object.entries(result).map(([name, value]) => [
      name,
      typeof value === "number" ? thousands(value) : value,
    ]);
    await writeData(columns(rows));
  }
  return 0;
}

async function run(sdk: Sdk, config: Config, json: boolean): Promise<number> {
  const progress = createProgress();
  const result = await interruptible(progress.listen, (signal) =>
    sdk.train(config, { onEvent: progress.listen, signal }),
  ).finally(() => progress.end());
  if (json) await writeJson(result);
  const { steps, totalSteps, interrupted, outputDir } = result;
  const loss = steps === 0 ? "" : `, train loss ${result.trainLoss.toFixed(4)}`;
  const done = interrupted ? `interrupted after ${steps} of ${totalSteps} steps` : `${steps} steps`;
  notes.info(`${done}${loss}, in ${outputDir}`);
  if (interrupted) notes.info("the same command with --resume-from-checkpoint goes on from here");
  notes.info(`report: ${result.report}`);
  return interrupted ? interruptCode() : 0;
}
