/** Which checkpoint of a run its trainer_state.json calls the best, where the run is to end with that. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { checkpointStep, RUN_FILES } from "./folder.ts";
import type { RunRecord } from "./record.ts";
import { parseTrainerState } from "./trainer-state.ts";

/** The best checkpoint of a run, as far as a state of it knows. */
export interface BestCheckpoint {
  readonly step: number;
  /** What it was chosen by, for people: `eval_loss 0.61`. */
  readonly why: string;
}

/** @param folder of the run or of a checkpoint: where the trainer_state.json lies. @throws ModelError where that is damaged */
export async function bestCheckpoint(folder: string, record: RunRecord): Promise<BestCheckpoint | undefined> {
  const { loadBestModelAtEnd, metricForBestModel } = record.config.training;
  const path = join(folder, RUN_FILES.state);
  if (loadBestModelAtEnd !== true || !existsSync(path)) return undefined;
  const { bestModelCheckpoint, bestGlobalStep, bestMetric } = parseTrainerState(await readFile(path, "utf8"), path);
  const step = bestModelCheckpoint === null ? undefined : checkpointStep(basename(bestModelCheckpoint));
  if (step === undefined) return undefined;
  const name = typeof metricForBestModel === "string" ? metricForBestModel : "loss";
  const metric = name.startsWith("eval_") ? name : `eval_${name}`;
  return { step, why: step === bestGlobalStep ? `${metric} ${bestMetric}` : `the best by ${metric} that was saved` };
}
