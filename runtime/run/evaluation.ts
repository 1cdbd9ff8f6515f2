/** Evaluation while a run trains: metrics of the rows held out, logged, and kept for the report. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { remove } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { EVALUATION_FILE, evaluationRecord } from "../folder/evaluation-record.ts";
import { writeJson } from "../folder/folder.ts";
import { computeLogits, scoreLogits } from "../training/evaluate.ts";
import type { TrainingRun } from "./training-run.ts";

/** @returns `eval_…`; undefined where nothing is held out */
export async function evaluateHeldOut(run: TrainingRun): Promise<Readonly<Record<string, number>> | undefined> {
  const { config, onEvent, session, evalData, evalLimits, progress, world } = run;
  if (evalData === undefined) return undefined;
  const { step, epoch } = progress;
  const { numLabels } = session;
  const start = performance.now();
  const logits = await computeLogits(session, evalData, evalLimits, "evaluating", onEvent, { world });
  const labels = evalData.dataset.rows.map((row) => row.label!);
  const metrics = scoreLogits(logits, labels, numLabels, config.metrics);
  const seconds = (performance.now() - start) / 1000;
  await run.log({
    epoch,
    step,
    ...metrics,
    eval_runtime: seconds,
    eval_samples_per_second: labels.length / seconds,
  });
  onEvent?.({ type: "eval", step, epoch, metrics, seconds });
  if (!logits.every(Number.isFinite)) {
    const message = `step ${step}: of the rows held out, some have logits that are not finite; ${EVALUATION_FILE} stays as it was`;
    onEvent?.({ type: "warning", message });
    return metrics;
  }
  if (world.rank !== 0) return metrics;
  await writeJson(
    join(config.training.outputDir, EVALUATION_FILE),
    await evaluationRecord(evalData, logits, { step, numLabels, maxLength: config.data.maxLength }),
  );
  return metrics;
}

/** Removes evaluation.json where it is of a step beyond the one from which a run goes on. */
export async function rewindEvaluation(outputDir: string, step: number): Promise<void> {
  const path = join(outputDir, EVALUATION_FILE);
  if (!existsSync(path)) return;
  const hint = "Remove it; the next evaluation writes it anew.";
  const { step: at } = parseJsonObject(await readFile(path, "utf8"), damaged(path, hint));
  if (typeof at === "number" && at > step) await explainWriteErrors(path, () => remove(path));
}
