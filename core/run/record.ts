/** What a run's folder says about itself, for the commands that use what it trained. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ModelError } from "../errors.ts";
import { ADAPTER_CONFIG_FILE, readAdapterConfig } from "../formats/peft.ts";
import type { RecordedMemory } from "../planning/run.ts";
import { checkpointPath, listCheckpoints, RUN_FILES } from "./folder.ts";

/** A plugin by name, with its options, as run.json stores it. */
export interface RecordedPlugin {
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** What the command line found it by, where it does not ship with qlora. */
  readonly from?: string;
}

/** The part of run.json that later commands read. */
export interface RunRecord {
  readonly config: {
    readonly model: RecordedPlugin;
    readonly adapter: RecordedPlugin;
    readonly metrics: readonly RecordedPlugin[];
    readonly data: Readonly<Record<string, unknown>>;
    readonly training: Readonly<Record<string, unknown>>;
  };
  readonly data: { readonly numLabels: number };
  /** What the memory plan settled. */
  readonly memory?: RecordedMemory;
  /** The checkpoint as the config names it; `sha` is the commit of a hub model. */
  readonly baseModel?: { readonly name: string; readonly sha?: string };
}

/** A trained adapter's folder, and the run it came from where that is known. */
export interface TrainedAdapter {
  readonly directory: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly record: RunRecord | undefined;
}

/**
 * Finds the adapter in a run's folder (else its newest checkpoint), in a checkpoint, or in a PEFT adapter's folder.
 * @throws ModelError where there is none
 */
export async function findAdapter(run: string): Promise<TrainedAdapter> {
  const newest = (await listCheckpoints(run)).at(-1);
  const candidates = [run, ...(newest === undefined ? [] : [checkpointPath(run, newest)])];
  const directory = candidates.find((candidate) => existsSync(join(candidate, ADAPTER_CONFIG_FILE)));
  if (directory === undefined) {
    throw new ModelError(
      "ADAPTER_NOT_FOUND",
      `${run}: there is no ${ADAPTER_CONFIG_FILE}, and no checkpoint that holds one`,
      {
        hint: "Name a run's output folder, one of its checkpoints, or a PEFT adapter.",
      },
    );
  }
  const record = await readRunRecord(directory);
  return { directory, config: await readAdapterConfig(join(directory, ADAPTER_CONFIG_FILE)), record };
}

/** run.json of a run's folder, or of the run that a checkpoint's folder belongs to. @throws ModelError */
export async function readRunRecord(directory: string): Promise<RunRecord | undefined> {
  const places = [directory, dirname(resolve(directory))].map((place) => join(place, RUN_FILES.record));
  const path = places.find((place) => existsSync(place));
  return path === undefined ? undefined : parseRecord(await readFile(path, "utf8"), path);
}

function parseRecord(text: string, path: string): RunRecord {
  let cause: unknown;
  try {
    const { config, data } = JSON.parse(text) as Partial<RunRecord>;
    if (config?.model !== undefined && data !== undefined) return JSON.parse(text) as RunRecord;
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    cause = error;
  }
  throw new ModelError("RUN_DAMAGED", `${path}: expected the record of a run of qlora train, got something else`, {
    hint: "Restore it; or move it away, and give the files and --base-model.",
    cause,
  });
}
