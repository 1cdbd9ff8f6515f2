/** What a run writes of what it trained: checkpoints as it goes, the adapter, trainer_state.json and the report at its end. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { requireAlike } from "../distributed/agree.ts";
import type { World } from "../distributed/world.ts";
import { writeFileAtomic } from "../files/files.ts";
import { writeFiles } from "../files/folder.ts";
import { writeAdapterNotes } from "../folder/adapter-notes.ts";
import { pruneCheckpoints, saveCheckpoint } from "../folder/checkpoints.ts";
import { RUN_FILES } from "../folder/folder.ts";
import { ADAPTER_FILES, writeManifest } from "../folder/manifest.ts";
import { formatTrainerState } from "../folder/trainer-state.ts";
import { writeCheckpoint } from "../folder/training-state.ts";
import { writeReport } from "../report/index.ts";
import { adapterValues } from "../session/adapter-values.ts";
import type { TrainingRun } from "./training-run.ts";

/** Writes checkpoint-N, from which a run goes on as if it had never stopped. @throws QloraError TRAINING_DIVERGED */
export async function saveRun({
  config: { training },
  world,
  onEvent,
  session,
  optimizerStep,
  scaler,
  progress,
  work,
  identity,
  lineage,
  syncLog,
  notes,
}: TrainingRun): Promise<void> {
  const { step } = progress;
  const values = await optimizerStep.evaluating(() => adapterValues(session));
  requireFinite(values, step);
  await requireSameValues(world, values, step);
  progress.best.saved(step);
  if (world.rank !== 0) return;
  await syncLog();
  const state = progress.trainingState(identity, scaler?.state ?? null);
  const path = await saveCheckpoint(training.outputDir, { step, lineage }, async (directory) => {
    await writeAdapterNotes(directory, notes);
    await writeCheckpoint(
      directory,
      session.adapter,
      values,
      optimizerStep.optimizer,
      state,
      progress.trainerState(training, work.intervals),
    );
  });
  onEvent?.({ type: "save", step, path });
}

/**
 * Removes the oldest checkpoints beyond the limit, of those that lead to where the run stands; not the best, nor the newest while
 * the run may go on from it.
 */
export async function pruneRun({ config: { training }, lineage, world, progress }: TrainingRun): Promise<void> {
  if (world.rank !== 0) return;
  const best = progress.best.state.checkpoint ?? undefined;
  const keep = { limit: training.saveTotalLimit, best, newest: !progress.done };
  await pruneCheckpoints(training.outputDir, lineage, keep);
}

/** Writes trainer_state.json and the report. @returns path of the report */
export async function writeSummary({ config: { training }, progress, work, world }: TrainingRun): Promise<string> {
  if (world.rank !== 0) return join(training.outputDir, RUN_FILES.report);
  const path = join(training.outputDir, RUN_FILES.state);
  await writeFileAtomic(path, formatTrainerState(progress.trainerState(training, work.intervals)));
  return writeReport(training.outputDir);
}

/**
 * Writes the adapter beside the run's record, trainer_state.json and the report; the adapter's manifest comes last, and a run
 * without it has not ended.
 * @returns path of the report
 */
export async function finishRun(run: TrainingRun): Promise<string> {
  const { config, session, optimizerStep, progress, lineage, notes } = run;
  const { outputDir } = config.training;
  const values = await optimizerStep.evaluating(() => adapterValues(session));
  requireFinite(values, progress.step);
  await requireSameValues(run.world, values, progress.step);
  if (run.world.rank !== 0) return join(outputDir, RUN_FILES.report);
  await writeAdapterNotes(outputDir, notes);
  await writeFiles(outputDir, await session.adapter.save(values));
  const report = await writeSummary(run);
  await run.syncLog();
  await pruneRun(run);
  await writeManifest(outputDir, { step: progress.step, lineage }, ADAPTER_FILES);
  return report;
}

/** Ranks that computed the same step otherwise would go on with adapters of their own. */
async function requireSameValues(
  world: World,
  values: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
  step: number,
): Promise<void> {
  if (world.size === 1) return;
  const hash = createHash("sha256");
  for (const value of values.values()) hash.update(value);
  const hint =
    "Their GPUs or drivers compute differently: use equal ones, or --tier f32. The last checkpoint is sound.";
  await requireAlike(world, `the parameters after step ${step}`, { sha256: hash.digest("hex") }, hint);
}

function requireFinite(values: ReadonlyMap<string, Float32Array>, step: number): void {
  const broken = [...values].filter(([, value]) => !value.every(Number.isFinite)).map(([name]) => name);
  if (broken.length === 0) return;
  const [first] = broken;
  throw diverged(
    `after step ${step}, ${broken.length} of ${values.size} parameters hold numbers that are not finite, the first is ${first}`,
  );
}

/** The error of a run whose numbers are lost. */
export function diverged(what: string, next = "Go on from an earlier checkpoint, or start anew,"): QloraError {
  return new QloraError("TRAINING_DIVERGED", `training diverged: ${what}`, {
    hint: `${next} with a lower training.learningRate, more warmup or a lower training.maxGradNorm.`,
  });
}
