/** The mean of several trained adapters of one config, head included: what a k-fold winner submits as one model. */
import { readdir } from "node:fs/promises";
import { adapterFiles } from "../core/adapter/files.ts";
import { openAdapterTensors } from "../core/adapter/saved-tensors.ts";
import { ConfigError, ModelError } from "../core/errors.ts";
import { readFloats } from "../core/formats/checkpoint.ts";
import { requireFinite } from "../core/formats/finite.ts";
import { formatModelCard } from "../core/formats/peft.ts";
import { formatPythonJson, type PythonJson } from "../core/formats/python-json.ts";
import type { SafetensorsFile } from "../core/formats/safetensors.ts";
import { defineRequest } from "../core/options/request.ts";
import { makeFolder } from "../runtime/files/disk.ts";
import { explainWriteErrors } from "../runtime/files/files.ts";
import { openFolder, writeFiles } from "../runtime/files/folder.ts";
import { type AdapterNotes, writeAdapterNotes } from "../runtime/folder/adapter-notes.ts";
import { findAdapter, type TrainedAdapter } from "../runtime/folder/find-adapter.ts";
import { labelNamesOf } from "../runtime/folder/label-names.ts";

/** Adapters to average, and where their mean goes. */
export interface AverageAdaptersRequest {
  /** Runs, checkpoints or PEFT adapters; two or more. */
  readonly adapters: readonly string[];
  /** A new or empty folder. */
  readonly outputDir: string;
}

const check = defineRequest<AverageAdaptersRequest>("averageAdapters", { adapters: "string[]", outputDir: "string" });

/** What was averaged. */
export interface AverageAdaptersResult {
  readonly outputDir: string;
  readonly adapters: readonly string[];
  readonly tensors: number;
}

/** Fields of adapter_config.json that say nothing about the values. */
const PASSIVE = ["peft_version", "inference_mode", "auto_mapping", "lora_dropout"];

/**
 * Writes the mean of every tensor (LoRA A, LoRA B, head), summed in f64, as a PEFT adapter.
 * The mean of A and the mean of B are not the mean of their product; folds that start from the same A stay close to it.
 * @throws ConfigError; ModelError naming every field of the configs that differs, or the tensor
 */
export async function averageAdapters(request: AverageAdaptersRequest): Promise<AverageAdaptersResult> {
  const { adapters: names, outputDir } = check(request);
  if (names.length < 2)
    throw new ConfigError("AVERAGE_ADAPTERS", `adapters: got ${names.length}, expected at least two to average`);
  const held = await readdir(outputDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code !== "ENOTDIR") throw error;
    throw new ConfigError("OUTPUT_NOT_A_FOLDER", `${outputDir}: is a file, expected a new or empty folder`, {
      hint: "Name another folder.",
    });
  });
  if (held.length > 0) {
    throw new ConfigError("OUTPUT_NOT_EMPTY", `${outputDir}: expected a new or empty folder, found ${held[0]}`, {
      hint: "Name another folder.",
    });
  }
  const adapters = await Promise.all(names.map((name) => findAdapter(name)));
  const [first, ...others] = adapters as [TrainedAdapter, ...TrainedAdapter[]];
  for (const other of others) checkConfig(first, other);
  const notes = notesOf(first);
  for (const other of others) checkNotes(first, other);

  const files: SafetensorsFile[] = [];
  try {
    for (const { directory } of adapters) files.push(await openAdapterTensors(openFolder(directory)));
    for (const file of files.slice(1)) checkTensors(files[0]!, file);
    const shapes = [...files[0]!.tensors].map(([name, { shape }]) => ({ name, shape }));
    const values = new Map<string, Float32Array<ArrayBuffer>>();
    for (const { name, shape } of shapes) values.set(name, await meanTensor(files, name, shape));
    await explainWriteErrors(outputDir, () => makeFolder(outputDir));
    const named = first.config["base_model_name_or_path"];
    const base = typeof named === "string" ? named : "an unnamed base model";
    const kind = String(first.config["peft_type"]).toLowerCase();
    const list = names.map((name) => `- ${name}`).join("\n");
    await writeAdapterNotes(outputDir, notes);
    const content = {
      config: formatPythonJson(first.config as PythonJson),
      card: formatModelCard(base, kind, `The mean of ${adapters.length} adapters, score head included:\n\n${list}`),
      shapes,
      values,
    };
    await writeFiles(outputDir, adapterFiles(content));
    return { outputDir, adapters: adapters.map(({ directory }) => directory), tensors: shapes.length };
  } finally {
    for (const file of files) await file[Symbol.asyncDispose]();
  }
}

async function meanTensor(
  files: readonly SafetensorsFile[],
  name: string,
  shape: readonly number[],
): Promise<Float32Array<ArrayBuffer>> {
  let sum: Float64Array | undefined;
  for (const file of files) {
    const values = await readFloats(file, name, shape);
    requireFinite(file.path, new Map([[name, values]]));
    sum ??= new Float64Array(values.length);
    for (let i = 0; i < values.length; i++) sum[i]! += values[i]!;
  }
  return Float32Array.from(sum!, (value) => value / files.length);
}

/** Lists that are sets in PEFT are compared as such. */
function comparable(value: unknown): string {
  const names = Array.isArray(value) && value.every((item) => typeof item === "string" || typeof item === "number");
  return JSON.stringify(names ? value.map(String).sort() : (value ?? null));
}

function checkConfig(first: TrainedAdapter, other: TrainedAdapter): void {
  const keys = [...new Set([...Object.keys(first.config), ...Object.keys(other.config)])].sort();
  const differing = keys.filter(
    (key) => !PASSIVE.includes(key) && comparable(first.config[key]) !== comparable(other.config[key]),
  );
  if (differing.length === 0) return;
  const list = differing.map(
    (key) => `${key} is ${show(other.config[key])}, but ${show(first.config[key])} in ${first.directory}`,
  );
  throw new ModelError("ADAPTERS_DIFFER", `${other.directory}: ${list.join("; ")}`, {
    hint: "Only adapters of one base model and one config can be averaged.",
  });
}

/** What an adapter was trained with, by its run's record, else by what stands beside it. */
const notesOf = (trained: TrainedAdapter): AdapterNotes => ({
  specialTokens: trained.record?.specialTokens ?? trained.beside.specialTokens,
  labelNames: labelNamesOf(trained),
});

function checkNotes(first: TrainedAdapter, other: TrainedAdapter): void {
  const [own, others] = [notesOf(first), notesOf(other)];
  for (const key of ["specialTokens", "labelNames"] as const) {
    if (JSON.stringify(own[key]) === JSON.stringify(others[key])) continue;
    throw new ModelError(
      "ADAPTERS_DIFFER",
      `${other.directory}: ${key} is ${show(others[key])}, but ${show(own[key])} in ${first.directory}`,
      { hint: "Only adapters trained on the same classes and special tokens can be averaged." },
    );
  }
}

const show = (value: unknown): string => (value === undefined ? "missing" : JSON.stringify(value));

function checkTensors(first: SafetensorsFile, other: SafetensorsFile): void {
  const wrong = (message: string): ModelError =>
    new ModelError("ADAPTERS_DIFFER", `${other.path}: ${message}`, {
      hint: "Only adapters of one base model and one config can be averaged.",
    });
  for (const [name, { shape }] of first.tensors) {
    const found = other.tensors.get(name)?.shape;
    if (found === undefined) throw wrong(`there is no tensor "${name}", which ${first.path} has`);
    if (found.join() !== shape.join())
      throw wrong(`tensor "${name}" is [${found.join(",")}], but [${shape.join(",")}] in ${first.path}`);
  }
  const extra = [...other.tensors.keys()].find((name) => !first.tensors.has(name));
  if (extra !== undefined) throw wrong(`tensor "${extra}" is not in ${first.path}`);
}
