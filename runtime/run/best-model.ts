/** The best checkpoint of a run: whether it is still there when the run goes on, and how the run ends with it. */
import { existsSync } from "node:fs";
import { shareFolder } from "../distributed/share-folder.ts";
import { fromFirst, type World } from "../distributed/world.ts";
import { openFolder } from "../files/folder.ts";
import type { RunListener } from "../events.ts";
import { checkpointPath } from "../folder/folder.ts";
import type { BestModel } from "../training/best-model.ts";
import { recordEvaluation } from "./evaluation.ts";
import type { TrainingRun } from "./training-run.ts";

/** Forgets the best checkpoint of a run that goes on where it was removed since, and says so, as transformers does. */
export async function findBestModel(
  best: BestModel,
  outputDir: string,
  world: World,
  onEvent: RunListener | undefined,
): Promise<void> {
  const { checkpoint } = best.state;
  if (checkpoint === null) return;
  const path = checkpointPath(outputDir, checkpoint);
  if (await fromFirst(world, { what: "rank 0 to look for the best checkpoint" }, () => existsSync(path))) return;
  best.lost();
  const message = `the best checkpoint of the run, ${path}, is gone: the run ends with one that is better still, or with its last`;
  onEvent?.({ type: "warning", message });
}

/**
 * Puts the parameters of the best checkpoint in the place of the last, and predicts the held-out rows with them.
 * @returns its metrics; undefined where the last is the best, or the best was not saved
 */
export async function loadBestModel(run: TrainingRun): Promise<Readonly<Record<string, number>> | undefined> {
  const { config, world, session, optimizerStep, progress, onEvent, work } = run;
  const { checkpoint, step, metric } = progress.best.state;
  const name = work.criterion?.metric;
  if (checkpoint === null) {
    const message = `loadBestModelAtEnd: no checkpoint is the best by ${name}; the run ends with its last step`;
    onEvent?.({ type: "warning", message });
    return undefined;
  }
  const path = checkpointPath(config.training.outputDir, checkpoint);
  const which =
    checkpoint === step ? `${name} ${metric}` : `the best that was saved; step ${step} has ${name} ${metric}`;
  onEvent?.({ type: "info", message: `the run ends with its best checkpoint, ${path}: ${which}` });
  if (checkpoint === progress.step) return undefined;
  await using folder = await shareFolder(world, path);
  const { parameters } = session;
  const values = await session.adapter.load(openFolder(folder.path));
  // What the adapter reads and nothing trains is that of the run.
  parameters.writeValues(new Map(parameters.parameters.map(({ name: key }) => [key, values.get(key)!])));
  optimizerStep.settle();
  return recordEvaluation(run, checkpoint);
}
