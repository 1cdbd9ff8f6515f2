/** Evaluation while a run trains: metrics of the rows held out, logged, and kept for the report. */
import { join } from "node:path";
import { computeLogits, evaluationRecord, scoreLogits } from "../inference/evaluate.ts";
import { EVALUATION_FILE } from "../report/evaluation-record.ts";
import { writeJson } from "./folder.ts";
import type { TrainingRun } from "./setup.ts";

/** @returns `eval_…`; undefined where nothing is held out */
export async function evaluateHeldOut(run: TrainingRun): Promise<Readonly<Record<string, number>> | undefined> {
  const { config, engine, onEvent, session, evalData, evalLimits, progress } = run;
  if (evalData === undefined) return undefined;
  const { step, epoch } = progress;
  const { numLabels } = session;
  const start = performance.now();
  const logits = await computeLogits(session, engine, evalData, evalLimits, "evaluating", onEvent);
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
  await writeJson(
    join(config.training.outputDir, EVALUATION_FILE),
    await evaluationRecord(evalData, logits, { step, numLabels, maxLength: config.data.maxLength }),
  );
  return metrics;
}
