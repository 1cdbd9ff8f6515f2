import { configToJson } from "../../runtime/config/config.ts";
import type { CrossValidation } from "../../sdk/cross-validate.ts";
import type { CommandData } from "../command.ts";
import { interruptCode, interruptible } from "../interrupt.ts";
import { wholeNumber } from "../numbers.ts";
import { columns, notes, writeData, writeJson } from "../output.ts";
import { createProgress } from "../progress.ts";

interface CvFlags {
  readonly folds: string | undefined;
  readonly printConfig: boolean;
  readonly json: boolean;
}

/** Trains every fold and prints the table of folds. */
export async function crossValidate({ services, config }: CommandData, flags: CvFlags): Promise<number> {
  if (flags.printConfig) {
    await writeJson(configToJson(config!));
    return 0;
  }
  const folds = wholeNumber("--folds", flags.folds, 2) ?? 5;
  const sdk = await services.sdk();
  const progress = createProgress();
  const result = await interruptible(progress.listen, (signal) =>
    sdk.crossValidate(config!, folds, { onEvent: progress.listen, signal }),
  ).finally(() => progress.end());
  await (flags.json ? writeJson(result) : writeData(table(result)));
  if (result.outOfFold !== undefined) notes.info(`out-of-fold predictions: ${result.outOfFold}`);
  if (result.interrupted) notes.info("interrupted; the same command goes on from here");
  return result.interrupted ? interruptCode() : 0;
}

/** A row for each fold, their mean, and all out-of-fold rows together. */
function table({ folds, metrics }: CrossValidation): string {
  const names = Object.keys(folds[0]?.metrics ?? {});
  if (names.length === 0) return "";
  const shown = (values: Readonly<Record<string, number>>): string[] => names.map((name) => values[name]!.toFixed(4));
  const mean = Object.fromEntries(
    names.map((name) => [name, folds.reduce((sum, fold) => sum + fold.metrics[name]!, 0) / folds.length]),
  );
  const total = String(folds.reduce((sum, { rows }) => sum + rows, 0));
  const rows = [
    ["fold", "rows", "steps", ...names],
    ...folds.map((fold) => [String(fold.fold), String(fold.rows), String(fold.steps), ...shown(fold.metrics)]),
    ["mean", "", "", ...shown(mean)],
    ...(metrics === undefined ? [] : [["all", total, "", ...shown(metrics)]]),
  ];
  return columns(rows, [false, ...rows[0]!.slice(1).map(() => true)]);
}
