/** Evaluation while a run trains: metrics of the rows held out, logged, and kept for the report. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import type { TokenizedDataset } from "../data/dataset-tokenizer.ts";
import { remove } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { EVALUATION_FILE, evaluationRecord } from "../folder/evaluation-record.ts";
import { writeJson } from "../folder/folder.ts";
import { outputsRecord } from "../folder/outputs-record.ts";
import { computeLogits, scoreLogits } from "../training/evaluate.ts";
import type { TrainingRun } from "./training-run.ts";

/** What an evaluation found. */
interface HeldOut {
  /** [rows, numLabels] */
  readonly logits: Float32Array<ArrayBuffer>;
  readonly metrics: Readonly<Record<string, number>>;
}

/** Evaluates, logs and keeps the predictions. @returns `eval_…`; undefined where nothing is held out */
export async function evaluateHeldOut(run: TrainingRun): Promise<Readonly<Record<string, number>> | undefined> {
  const { onEvent, evalData, progress } = run;
  if (evalData === undefined) return undefined;
  const { step, epoch } = progress;
  const start = performance.now();
  const { logits, metrics } = await predictHeldOut(run, evalData);
  const seconds = (performance.now() - start) / 1000;
  await run.log({
    epoch,
    step,
    ...metrics,
    eval_runtime: seconds,
    eval_samples_per_second: evalData.size / run.work.kind.rowsPerSample / seconds,
  });
  onEvent?.({ type: "eval", step, epoch, metrics, seconds });
  await keepPredictions(run, evalData, logits, step);
  return metrics;
}

/** Keeps the predictions of a checkpoint that was evaluated before; the log has it already. @returns `eval_…` as above */
export async function recordEvaluation(
  run: TrainingRun,
  step: number,
): Promise<Readonly<Record<string, number>> | undefined> {
  if (run.evalData === undefined) return undefined;
  const { logits, metrics } = await predictHeldOut(run, run.evalData);
  await keepPredictions(run, run.evalData, logits, step);
  return metrics;
}

async function predictHeldOut(run: TrainingRun, evalData: TokenizedDataset): Promise<HeldOut> {
  const { config, onEvent, session, optimizerStep, evalLimits, world } = run;
  const logits = await optimizerStep.evaluating(() =>
    computeLogits(session, evalData, evalLimits, "evaluating", onEvent, { world }),
  );
  const { kind } = run.work;
  const scored = kind.score(logits, evalData.dataset.rows, session.numLabels);
  return { logits, metrics: scoreLogits(scored, config.metrics, kind, evalData.dataset.rows) };
}

/** Writes evaluation.json, on rank 0. */
async function keepPredictions(
  { config, onEvent, session, work: { kind }, world }: TrainingRun,
  evalData: TokenizedDataset,
  logits: Float32Array<ArrayBuffer>,
  step: number,
): Promise<void> {
  if (!logits.every(Number.isFinite)) {
    const message = `step ${step}: of the rows held out, some have logits that are not finite; ${EVALUATION_FILE} stays as it was`;
    onEvent?.({ type: "warning", message });
    return;
  }
  if (world.rank !== 0) return;
  const { numLabels } = session;
  const record =
    kind.name === "classification"
      ? await evaluationRecord(evalData, logits, { step, numLabels, maxLength: config.data.maxLength })
      : outputsRecord(evalData, kind.score(logits, evalData.dataset.rows, numLabels), kind, step);
  await writeJson(join(config.training.outputDir, EVALUATION_FILE), record);
}

/** Removes evaluation.json where it is of a step beyond the one from which a run goes on. */
export async function rewindEvaluation(outputDir: string, step: number): Promise<void> {
  const path = join(outputDir, EVALUATION_FILE);
  if (!existsSync(path)) return;
  const hint = "Remove it; the next evaluation writes it anew.";
  const { step: at } = parseJsonObject(await readFile(path, "utf8"), damaged(path, hint));
  if (typeof at === "number" && at > step) await explainWriteErrors(path, () => remove(path));
}
