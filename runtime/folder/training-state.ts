/** What a checkpoint holds beside the adapter, so that a resumed run goes on as if it had never stopped. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { SavedTensor } from "../../core/compute/saved-state.ts";
import type { DType } from "../../core/device/tensor.ts";
import { ConfigError, ModelError, PluginError } from "../../core/errors.ts";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import { formatValue } from "../../core/options/describe.ts";
import type { Adapter } from "../../core/plugin/adapter.ts";
import type { Optimizer } from "../../core/plugin/optimizer.ts";
import { writeFileAtomic } from "../files/files.ts";
import { openSafetensors, writeFiles, writeSafetensors } from "../files/folder.ts";
import { RUN_FILES, writeJson } from "./folder.ts";
import { parseTrainingState, type TrainingState } from "./parse-state.ts";
import { formatTrainerState, parseTrainerState, type TrainerState } from "./trainer-state.ts";

const STATE = "training_state.json";
const OPTIMIZER = "optimizer.safetensors";
const TO_FILE: Readonly<Record<DType, "F32" | "F16" | "BF16" | "U32" | "U8">> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  u32: "U32",
  u8: "U8",
};
const FROM_FILE = new Map(Object.entries(TO_FILE).map(([ours, theirs]) => [theirs as string, ours as DType]));

/** Writes a checkpoint's files into `directory`. */
export async function writeCheckpoint(
  directory: string,
  adapter: Adapter,
  values: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
  optimizer: Optimizer,
  state: TrainingState,
  trainer: TrainerState,
): Promise<void> {
  await writeFiles(directory, await adapter.save(values));
  const tensors = tensorsOf(await optimizer.save(), state.optimizer);
  const metadata = { format: "qlora", optimizer: state.optimizer, step: String(state.step) };
  await writeSafetensors(join(directory, OPTIMIZER), tensors, metadata);
  await writeJson(join(directory, STATE), state);
  await writeFileAtomic(join(directory, RUN_FILES.state), formatTrainerState(trainer));
}

/** @throws PluginError where `save` gave something else than tensors by name */
function tensorsOf(saved: unknown, optimizer: string): (readonly [string, TensorToWrite])[] {
  const wrong = (got: string): PluginError =>
    new PluginError(
      "OPTIMIZER_STATE",
      `optimizer ${optimizer}: save() gives ${got}, expected a Map of tensors by name`,
      {
        hint: "A tensor is { dtype, shape, data }, as savedTensor makes it; optimizerContract of qlora/testing checks it.",
      },
    );
  if (!(saved instanceof Map)) throw wrong(formatValue(saved));
  return [...(saved as Map<string, Partial<SavedTensor>>)].map(([name, { dtype, shape, data }]) => {
    if (dtype === undefined || TO_FILE[dtype] === undefined || shape === undefined || !(data instanceof Uint8Array))
      throw wrong(`dtype ${String(dtype)} and data that is ${data?.constructor.name ?? "nothing"} for ${name}`);
    return [name, { dtype: TO_FILE[dtype], shape, data }] as const;
  });
}

/**
 * Reads a checkpoint's state, and what transformers would read of it.
 * @throws ModelError where the folder is no checkpoint of ours, or a value is wrong; QloraError where a file is damaged
 */
export async function readTrainingState(directory: string): Promise<TrainingState> {
  const path = join(directory, STATE);
  const hint = "Go on from an earlier checkpoint: --resume-from-checkpoint FOLDER.";
  const json = parseJsonObject(await readText(path), damaged(path, hint));
  if (json["version"] !== 1)
    throw new ModelError("CHECKPOINT_VERSION", `${path}: version ${formatValue(json["version"])}, expected 1`);
  const trainerPath = join(directory, RUN_FILES.state);
  return parseTrainingState(json, parseTrainerState(await readText(trainerPath), trainerPath), path);
}

function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch((cause: unknown) => {
    throw new ModelError("CHECKPOINT_INCOMPLETE", `${path}: cannot be read`, {
      hint: "Name a folder checkpoint-N that qlora train wrote.",
      cause,
    });
  });
}

/** Reads the optimizer's tensors. @throws ModelError where they are of another step or optimizer than the state */
export async function readOptimizerState(
  directory: string,
  state: Pick<TrainingState, "step" | "optimizer">,
): Promise<Map<string, SavedTensor>> {
  await using file = await openSafetensors(join(directory, OPTIMIZER));
  for (const key of ["step", "optimizer"] as const) {
    const saved = file.metadata[key] ?? String(state[key]); // qlora 0.1.0 wrote neither
    if (saved === String(state[key])) continue;
    throw new ModelError(
      "OPTIMIZER_STATE_MISMATCH",
      `${file.path}: ${key} is ${saved}, but ${state[key]} in ${STATE}`,
      {
        hint: "The checkpoint was put together of several: go on from another one, --resume-from-checkpoint FOLDER.",
      },
    );
  }
  const tensors = new Map<string, SavedTensor>();
  for (const [name, info] of file.tensors) {
    const dtype = FROM_FILE.get(info.dtype);
    if (dtype === undefined)
      throw new ModelError("CHECKPOINT_DTYPE", `${file.path}: tensor "${name}" is ${info.dtype}`);
    tensors.set(name, { dtype, shape: info.shape, data: await file.read(name) });
  }
  return tensors;
}

/**
 * Refuses to go on with anything that would silently be another run.
 * @throws ConfigError naming every difference
 */
export function checkResumable(
  state: TrainingState,
  now: Pick<TrainingState, "data" | "evaluation" | "seed" | "samplesPerStep" | "optimizer">,
  directory: string,
): void {
  const problems: string[] = [];
  if (state.data !== now.data)
    problems.push(`data: the training rows, tokenizer or truncation differ from those of ${directory}`);
  // Held-out rows may come and go: nothing that was trained depends on them.
  if (state.evaluation !== null && now.evaluation !== null && state.evaluation !== now.evaluation)
    problems.push(`data: the rows held out, tokenizer or truncation differ from those of ${directory}`);
  for (const key of ["seed", "samplesPerStep", "optimizer"] as const) {
    if (state[key] !== now[key]) problems.push(`${key}: ${directory} was made with ${state[key]}, got ${now[key]}`);
  }
  if (problems.length > 0) {
    throw new ConfigError("RESUME_DIFFERS", problems, {
      hint: "Resume with the same data and settings, or start anew with --init-adapter.",
    });
  }
}
