/** The files of a page's model and adapter: what of the base is read, and the digests by which a browser knows them. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Checkpoint, openCheckpoint, WEIGHTS_INDEX } from "../../core/formats/checkpoint.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, readAdapterConfig } from "../../core/formats/peft.ts";
import { formatPythonJson } from "../../core/formats/python-json.ts";
import type { TensorToWrite } from "../../core/formats/safetensors.ts";
import type { ModelSpec } from "../../core/plugin/model.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { openFolder, writeSafetensors } from "../../runtime/files/folder.ts";
import { sha256Of } from "../../web/chunks.ts";
import { CHUNK_BYTES, type SiteFile, type SiteManifest } from "../../web/manifest.ts";
import { planShards } from "../merge/shards.ts";

/** Bytes after which another file of weights begins: what browsers and static servers take without trouble. */
const SHARD_BYTES = 1e9;
const PIECE_BYTES = 4 * 2 ** 20;

/** Files of the tokenizer that a page reads. */
const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"];

/** What a page's files are made of. */
export interface SiteSources {
  /** Folder of the base model. */
  readonly base: string;
  /** Folder of the adapter. */
  readonly adapter: string;
  /** The base model by the name that the page tells. */
  readonly baseModel: string;
  readonly outline: ModelSpec;
}

/**
 * Writes `model/` and `adapter/` into a folder: of the base no more than what its model reads, as it is stored.
 * @returns paths of the files
 */
export async function writeModelFiles(
  folder: string,
  { base, adapter, baseModel, outline }: SiteSources,
  onBytes: (done: number, total: number) => void,
): Promise<string[]> {
  const written: string[] = [];
  const copy = async (from: string, to: string): Promise<void> => {
    if (!existsSync(from)) return;
    await writeFileAtomic(join(folder, to), await readFile(from));
    written.push(to);
  };
  await copy(join(base, "config.json"), "model/config.json");
  for (const file of TOKENIZER_FILES) await copy(join(base, file), `model/${file}`);
  await using checkpoint = await openCheckpoint(openFolder(base));
  const { files, bytes } = planShards(tensorsOf(checkpoint, outline), SHARD_BYTES);
  let done = 0;
  const told = async function* (pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of pieces) {
      yield piece;
      onBytes((done += piece.byteLength), bytes);
    }
  };
  for (const { name, tensors } of files) {
    const list = tensors.map(([key, spec]): readonly [string, TensorToWrite] => [
      key,
      { ...spec, data: async () => told(checkpoint.stream(key, PIECE_BYTES)) },
    ]);
    await writeSafetensors(join(folder, "model", name), list, { format: "pt" });
    written.push(`model/${name}`);
  }
  if (files.length > 1) {
    const places = Object.fromEntries(files.flatMap(({ name, tensors }) => tensors.map(([key]) => [key, name])));
    const index = formatPythonJson({ metadata: { total_size: bytes }, weight_map: places });
    await writeFileAtomic(join(folder, "model", WEIGHTS_INDEX), `${index}\n`);
    written.push(`model/${WEIGHTS_INDEX}`);
  }
  await copy(join(adapter, ADAPTER_WEIGHTS_FILE), `adapter/${ADAPTER_WEIGHTS_FILE}`);
  const config = { ...(await readAdapterConfig(openFolder(adapter))), base_model_name_or_path: baseModel };
  await writeFileAtomic(join(folder, "adapter", ADAPTER_CONFIG_FILE), `${JSON.stringify(config, undefined, 2)}\n`);
  written.push(`adapter/${ADAPTER_CONFIG_FILE}`);
  return written;
}

/** Tensors of the base that its model reads, and what belongs to each: a weight's absmax and code beside its nibbles. */
function tensorsOf(checkpoint: Checkpoint, { baseParameters }: ModelSpec): (readonly [string, TensorToWrite])[] {
  const own = new Set(baseParameters.map(({ name }) => name));
  const isRead = (name: string): boolean => {
    for (let end = name.length; end > 0; end = name.lastIndexOf(".", end - 1))
      if (own.has(name.slice(0, end))) return true;
    return false;
  };
  return [...checkpoint.tensors].flatMap(([name, { dtype, shape }]) =>
    isRead(name) ? [[name, { dtype, shape, data: new Uint8Array(0) }] as const] : [],
  );
}

/** Lengths and digests of files below a folder, by path. */
export async function digestFiles(
  folder: string,
  paths: readonly string[],
): Promise<Pick<SiteManifest, "files" | "chunkBytes">> {
  const files: Record<string, SiteFile> = {};
  const disk = openFolder(folder);
  for (const path of paths) {
    const source = (await disk.open(path))!;
    const chunks: string[] = [];
    for (let offset = 0; offset < source.size; offset += CHUNK_BYTES)
      chunks.push(await sha256Of(await source.read(offset, CHUNK_BYTES)));
    await source.close();
    files[path] = { bytes: source.size, chunks };
  }
  return { files, chunkBytes: CHUNK_BYTES };
}
