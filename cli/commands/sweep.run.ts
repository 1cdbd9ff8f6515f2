import { readFile } from "node:fs/promises";
import { ConfigError } from "../../core/errors.ts";
import { parseJsonObject } from "../../core/formats/json-object.ts";
import { configToJson } from "../../runtime/config/config.ts";
import type { SweepPlan, SweepResult } from "../../sdk/sweep/index.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, interruptible } from "../interrupt.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface SweepFlags {
  readonly file: string;
  readonly printConfig: boolean;
  readonly json: boolean;
}

/** Trains the arms of a plan and prints their table, the best first. */
export async function runSweep({ services, config }: CommandData, flags: SweepFlags): Promise<number> {
  if (flags.printConfig) {
    await writeJson(configToJson(config!));
    return 0;
  }
  const invalid = (problem: string, cause?: unknown): ConfigError =>
    new ConfigError("SWEEP_INVALID", `${flags.file}: ${problem}`, {
      cause,
      hint: 'A plan is JSON such as {"method": "grid", "parameters": {"training.learningRate": [1e-4, 1e-3]}}.',
    });
  const text = await readFile(flags.file, "utf8").catch((cause: unknown) => {
    throw invalid("cannot be read", cause);
  });
  const plan = parseJsonObject(text, invalid) as unknown as SweepPlan; // checked by the verb
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await interruptible(progress.listen, (signal) =>
    sdk.sweep(config!, plan, { onEvent: progress.listen, signal }),
  ).finally(() => progress.end());
  await (flags.json ? writeJson(result) : writeData(table(result)));
  notes.info(`the arms side by side: ${result.page}`);
  if (result.interrupted) notes.info("interrupted; the same command goes on from here");
  return result.interrupted ? interruptCode() : 0;
}

function table({ arms, metric }: SweepResult): string {
  const names = Object.keys(arms[0]?.values ?? {});
  const shown = (value: unknown): string =>
    value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
  const rows = [
    ["arm", ...names, "steps", metric, "state"],
    ...arms.map(({ arm, values, steps, value, state }) => [
      String(arm),
      ...names.map((name) => shown(values[name])),
      String(steps),
      value === undefined ? "" : value.toFixed(4),
      state,
    ]),
  ];
  return columns(rows, [true, ...names.map(() => true), true, true, false]);
}
