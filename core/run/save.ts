/** What a run writes of what it trained: checkpoints as it goes, the adapter, trainer_state.json and the report at its end. */
import { join } from "node:path";
import { writeFileAtomic } from "../files.ts";
import { writeReport } from "../report/index.ts";
import { writeCheckpoint } from "../training/training-state.ts";
import { RUN_FILES, saveCheckpoint } from "./folder.ts";
import type { TrainingRun } from "./setup.ts";
import { formatTrainerState } from "./trainer-state.ts";

/** Writes checkpoint-N, from which a run goes on as if it had never stopped. */
export async function saveRun({
  config: { training },
  onEvent,
  session,
  optimizer,
  scaler,
  progress,
  identity,
}: TrainingRun): Promise<void> {
  const { step } = progress;
  const values = await session.parameters.readValues();
  const state = progress.trainingState(identity, scaler?.state ?? null);
  const path = await saveCheckpoint(training.outputDir, step, training.saveTotalLimit, (directory) =>
    writeCheckpoint(directory, session.adapter, values, optimizer, state, progress.trainerState(training)),
  );
  onEvent?.({ type: "save", step, path });
}

/** Writes the adapter beside the run's record. */
export async function saveAdapter({ config, session }: TrainingRun): Promise<void> {
  await session.adapter.save(config.training.outputDir, await session.parameters.readValues());
}

/** Writes trainer_state.json and the report. @returns path of the report */
export async function writeSummary({ config: { training }, progress }: TrainingRun): Promise<string> {
  const path = join(training.outputDir, RUN_FILES.state);
  await writeFileAtomic(path, formatTrainerState(progress.trainerState(training)));
  return writeReport(training.outputDir);
}
