/** Whether a run has ended: all that it writes at its end is there, the manifest of its adapter last. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../core/formats/peft.ts";
import { RUN_FILES } from "./folder.ts";
import { isOnLine, UNRECORDED } from "./lineage.ts";
import { ADAPTER_FILES, readManifest, requireWhole } from "./manifest.ts";
import { readOwnRecord } from "./record.ts";
import { parseTrainerState } from "./trainer-state.ts";

/** Whether the run in a folder has ended, and not gone on since. @throws ModelError where what it wrote is not whole any more */
export async function hasEnded(outputDir: string): Promise<boolean> {
  return (await endOf(outputDir)) !== undefined;
}

/** The step at which the run in a folder ended; undefined where it has not. @throws ModelError as `hasEnded` */
export async function endOf(outputDir: string): Promise<number | undefined> {
  const record = await readOwnRecord(outputDir);
  if (record === undefined) return undefined;
  const manifest = await readManifest(outputDir);
  if (manifest !== undefined) {
    if (!isOnLine(manifest, record.lineage ?? UNRECORDED)) return undefined;
    await requireWhole(outputDir, manifest, ADAPTER_FILES);
    return (await stepStopped(outputDir)) === manifest.step ? manifest.step : undefined;
  }
  // What qlora 0.1.0 wrote at the end, the report last.
  const names = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, RUN_FILES.report];
  const whole = record.lineage === undefined && names.every((name) => existsSync(join(outputDir, name)));
  return whole ? stepStopped(outputDir) : undefined;
}

/** The step of a trainer_state.json that says that the run is over. */
export async function stepStopped(outputDir: string): Promise<number | undefined> {
  const path = join(outputDir, RUN_FILES.state);
  if (!existsSync(path)) return undefined;
  const { shouldTrainingStop, globalStep } = parseTrainerState(await readFile(path, "utf8"), path);
  return shouldTrainingStop ? globalStep : undefined;
}
