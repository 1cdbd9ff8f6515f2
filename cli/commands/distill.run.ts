import { ConfigError } from "../../core/errors.ts";
import { type Config, loadConfig } from "../../runtime/config/config.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, interruptible } from "../interrupt.ts";
import { wholeNumber } from "../numbers.ts";
import { notes, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface DistillFlags {
  readonly teachers: string | undefined;
  readonly folds: string | undefined;
  readonly equal: boolean;
  readonly recipe: "blackpearl" | undefined;
  readonly json: boolean;
}

/** Trains teachers that are configs, then the student. */
export async function runDistill({ services, config }: CommandData, flags: DistillFlags): Promise<number> {
  const { teachers: named, equal, recipe, json } = flags;
  if (named === undefined) {
    throw new ConfigError("USAGE", "--teachers: got nothing, expected files, folders of qlora cv or configs", {
      hint: "See qlora distill --help.",
    });
  }
  const folds = wholeNumber("--folds", flags.folds, 2) ?? 5;
  const teachers = await Promise.all(named.split(",").map((name) => teacherOf(name.trim())));
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await interruptible(progress.listen, (signal) =>
    sdk.distill(config!, { teachers, folds, calibrate: !equal, recipe }, { onEvent: progress.listen, signal }),
  ).finally(() => progress.end());
  if (json) await writeJson(result);
  const { student, weights, temperature, softLabels } = result;
  const interrupted = student?.interrupted ?? true;
  if (student !== undefined) {
    notes.info(
      `teachers: weights ${weights.map((w) => w.toFixed(3)).join(", ")}, temperature ${temperature.toFixed(3)}`,
    );
    notes.info(`soft labels: ${softLabels}`);
    notes.info(`student: ${student.steps} steps, train loss ${student.trainLoss.toFixed(4)}, in ${student.outputDir}`);
  }
  if (interrupted) notes.info("interrupted; the same command goes on from here");
  return interrupted ? interruptCode() : 0;
}

/** A config file is loaded; all else is a path. */
async function teacherOf(name: string): Promise<string | Config> {
  return /\.[cm]?[jt]s$/.test(name) ? (await loadConfig(name, process.cwd()))! : name;
}
