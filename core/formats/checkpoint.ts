/**
 * A model's folder in Hugging Face's layout: config.json beside model.safetensors, or beside several shards that
 * model.safetensors.index.json lists. Tensors are looked up across the shards and read one at a time.
 */
import { ModelError } from "../errors.ts";
import { type Folder, isFileName, pathIn, readText } from "./bytes.ts";
import { bf16ToF32, f16ToF32 } from "./half.ts";
import { isObject, parseJsonObject } from "./json-object.ts";
import { currentKey } from "./key-names.ts";
import { formatJson } from "./model-config.ts";
import type { TensorInfo } from "./safetensors-header.ts";
import { missingTensor, openSafetensors, type SafetensorsFile, type TensorSource } from "./safetensors.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
export const WEIGHTS_INDEX = INDEX;
const CONFIG = "config.json";
const ADAPTER = "adapter_config.json";

/** An open checkpoint; close it, or hold it with `await using`. */
export interface Checkpoint extends TensorSource {
  readonly dir: string;
  /** config.json as it stands. */
  readonly config: Readonly<Record<string, unknown>>;
}

/**
 * Opens a checkpoint: reads config.json and every header, no tensor yet.
 * @throws ModelError CHECKPOINT_INVALID or SAFETENSORS_INVALID naming the file and, where one is to blame, the tensor
 */
export async function openCheckpoint(folder: Folder): Promise<Checkpoint> {
  const config = await readModelConfig(folder);
  const single = await isSingle(folder);
  const places = single ? undefined : await readPlaces(folder);
  const shards = new Map<string, SafetensorsFile>();
  try {
    for (const name of places === undefined ? [SINGLE] : new Set(places.values())) {
      shards.set(name, await openSafetensors(folder, name));
    }
    return assemble(folder, config, shards, places);
  } catch (error) {
    await closeAll(shards);
    throw error;
  }
}

/** Whether a folder holds weights, or at least their index. */
export async function hasWeights(folder: Folder): Promise<boolean> {
  return (await folder.has(SINGLE)) || folder.has(INDEX);
}

/** Whether a folder holds the weights as one file. */
export const isSingle = (folder: Folder): Promise<boolean> => folder.has(SINGLE);

/**
 * config.json of a model's folder; no weights are needed.
 * @throws ModelError CHECKPOINT_INVALID
 */
export async function readModelConfig(folder: Folder): Promise<Readonly<Record<string, unknown>>> {
  const adapter = (await folder.has(ADAPTER)) && !(await folder.has(CONFIG));
  const hint = adapter
    ? `It holds ${ADAPTER}: this is an adapter. Give its base model here.`
    : "Give the folder of a Hugging Face checkpoint: config.json and safetensors.";
  return readJsonObject(folder, CONFIG, hint);
}

/** One problem with a checkpoint, told in full. */
export function checkpointError(message: string, hint: string, cause?: unknown): ModelError {
  return new ModelError("CHECKPOINT_INVALID", message, { hint, cause });
}

/**
 * A tensor that is stored as floats, widened to f32; row-major.
 * @param shape what the model expects, where it knows
 * @throws ModelError TENSOR_MISSING, or CHECKPOINT_INVALID naming the tensor where dtype or shape is another
 */
export async function readFloats(
  source: TensorSource,
  name: string,
  shape?: readonly number[],
): Promise<Float32Array<ArrayBuffer>> {
  const { dtype } = expectFloats(source, name, shape);
  const bytes = await source.read(name);
  if (dtype === "F32") return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer);
  return dtype === "BF16" ? bf16ToF32(halves) : f16ToF32(halves);
}

/**
 * What a float tensor is, before anything of it is read.
 * @throws ModelError TENSOR_MISSING, or CHECKPOINT_INVALID naming the tensor where dtype or shape is another
 */
export function expectFloats(
  source: TensorSource,
  name: string,
  shape?: readonly number[],
): TensorInfo & { readonly dtype: "F32" | "BF16" | "F16" } {
  const info = source.tensors.get(name);
  const path = source.pathOf(name);
  if (info === undefined) throw missingTensor(path, name);
  const { dtype } = info;
  if (dtype !== "F32" && dtype !== "BF16" && dtype !== "F16") {
    throw checkpointError(
      `${path}: tensor "${name}" is ${dtype}, expected F32, BF16 or F16`,
      "This tensor must be kept as floats; skip it when quantizing the checkpoint.",
    );
  }
  if (shape !== undefined && (info.shape.length !== shape.length || shape.some((n, i) => n !== info.shape[i]))) {
    throw checkpointError(
      `${path}: tensor "${name}" is [${info.shape.join(",")}], expected [${shape.join(",")}]`,
      "config.json and the weights are of different models.",
    );
  }
  return { ...info, dtype };
}

function assemble(
  folder: Folder,
  config: Readonly<Record<string, unknown>>,
  shards: ReadonlyMap<string, SafetensorsFile>,
  places: ReadonlyMap<string, string> | undefined,
): Checkpoint {
  const owners = new Map<string, SafetensorsFile>();
  const tensors = new Map<string, TensorInfo>();
  const lookup = places ?? [...shards.get(SINGLE)!.tensors.keys()].map((name) => [name, SINGLE] as const);
  /** Names in the files, by those that the tensors have today. */
  const stored = new Map<string, string>();
  for (const [name, shard] of lookup) {
    const file = shards.get(shard)!;
    const current = currentKey(name);
    const info = file.tensors.get(name);
    if (info === undefined) {
      throw checkpointError(
        `${file.path}: tensor "${name}" is not in this shard, where ${INDEX} says it is`,
        "The shards and the index are of different downloads; fetch the checkpoint again.",
      );
    }
    owners.set(current, file);
    tensors.set(current, info);
    stored.set(current, name);
  }
  const inFile = (name: string): string => stored.get(name) ?? name;
  const owner = (name: string): SafetensorsFile => {
    const file = owners.get(name);
    if (file === undefined) throw missingTensor(folder.name, name);
    return file;
  };
  const close = () => closeAll(shards);
  return {
    dir: folder.name,
    config,
    tensors,
    pathOf: (name) => owners.get(name)?.path ?? folder.name,
    read: async (name) => owner(name).read(inFile(name)),
    readInto: async (name, target, offset) => owner(name).readInto(inFile(name), target, offset),
    stream: (name, chunkBytes) => owner(name).stream(inFile(name), chunkBytes),
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function closeAll(shards: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  await Promise.all([...shards.values()].map((file) => file.close()));
}

/** Which shard holds which tensor; says at once which shards are missing. */
async function readPlaces(folder: Folder): Promise<ReadonlyMap<string, string>> {
  const dir = folder.name;
  if (!(await folder.has(INDEX))) {
    const pickled = await firstOf(folder, ["pytorch_model.bin", "pytorch_model.bin.index.json"]);
    throw checkpointError(
      `${dir}: there is neither ${SINGLE} nor ${INDEX}`,
      pickled === undefined
        ? "Give the folder that holds the weights as safetensors."
        : `The weights are pickled (${pickled}); save them again as safetensors.`,
    );
  }
  const places = await readIndex(folder);
  const there = new Set<string>();
  for (const shard of new Set(places.values())) if (await folder.has(shard)) there.add(shard);
  const lost = describeMissing(places, (shard) => there.has(shard));
  if (lost !== undefined)
    throw checkpointError(`${dir}: ${lost}`, "The download is not whole; fetch the checkpoint again.");
  return places;
}

/**
 * An index of shards: which file holds which tensor, by its name.
 * @throws ModelError CHECKPOINT_INVALID
 */
export async function readIndex(folder: Folder): Promise<ReadonlyMap<string, string>> {
  const path = pathIn(folder, INDEX);
  const again = "Fetch the checkpoint again; where that changes nothing, choose another revision of the model.";
  const map = (await readJsonObject(folder, INDEX, again))["weight_map"];
  if (!isObject(map)) throw checkpointError(`${path}: weight_map is ${formatJson(map)}, expected an object`, again);
  const places = Object.entries(map);
  if (places.length === 0)
    throw checkpointError(`${path}: weight_map is empty, expected a file for each tensor`, again);
  for (const [name, shard] of places) {
    if (typeof shard === "string" && isFileName(shard)) continue;
    throw checkpointError(
      `${path}: tensor ${formatJson(name)} lies in ${formatJson(shard)}, which is no file name`,
      again,
    );
  }
  return new Map(places as [string, string][]);
}

/** Which shards of an index are not there; undefined where all are. */
export function describeMissing(
  places: ReadonlyMap<string, string>,
  has: (shard: string) => boolean,
): string | undefined {
  const missing = [...new Set(places.values())].filter((shard) => !has(shard));
  if (missing.length === 0) return undefined;
  const [name] = [...places].find(([, shard]) => shard === missing[0])!;
  const list = missing.length > 5 ? `${missing.slice(0, 5).join(", ")}, ...` : missing.join(", ");
  const are = missing.length === 1 ? "a shard is" : `${missing.length} shards are`;
  return `${are} missing: ${list} (the first of them holds tensor "${name}")`;
}

async function firstOf(folder: Folder, files: readonly string[]): Promise<string | undefined> {
  for (const file of files) if (await folder.has(file)) return file;
  return undefined;
}

async function readJsonObject(folder: Folder, file: string, hint: string): Promise<Readonly<Record<string, unknown>>> {
  const path = pathIn(folder, file);
  const unread = (reason: string, cause?: unknown): ModelError =>
    checkpointError(`${path}: cannot be read (${reason})`, hint, cause);
  const text = await readText(folder, file).catch((error: unknown) => {
    throw unread((error as Error).message, error);
  });
  if (text === undefined) throw unread("there is no such file");
  return parseJsonObject(text, (problem, cause) =>
    checkpointError(`${path}: ${problem}`, "Fetch the file again.", cause),
  );
}
