/** Which files of a model are needed, and whether a folder holds them all. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { ModelError } from "../errors.ts";

/** `config` is what is needed to know a model's shape; `all` adds tokenizer and weights. */
export type ModelPart = "config" | "all";

const CONFIG = "config.json";
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const FAST_TOKENIZER = "tokenizer.json";
const SLOW_TOKENIZERS = ["tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"];
const BESIDES = ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/** Everything that makes a tokenizer. */
export const TOKENIZER_FILES: readonly string[] = [
  FAST_TOKENIZER,
  ...SLOW_TOKENIZERS,
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
];

/** Small files of `part` that a model has: everything but the shards, which the index lists. */
export function smallFiles(id: string, names: readonly string[], part: ModelPart): string[] {
  const has = new Set(names);
  if (!has.has(CONFIG)) {
    throw new ModelError("HUB_NO_CHECKPOINT", `${id} has no ${CONFIG}: it is no transformers checkpoint`, {
      hint: "Give a model in Hugging Face's layout, such as unsloth/gemma-2-9b-it-bnb-4bit.",
    });
  }
  if (part === "config") return [CONFIG];
  if (!has.has(SINGLE) && !has.has(INDEX)) {
    throw new ModelError("HUB_NO_SAFETENSORS", `${id} has neither ${SINGLE} nor ${INDEX}`, {
      hint: "Only weights saved as safetensors are read.",
    });
  }
  const tokenizer = has.has(FAST_TOKENIZER) ? [FAST_TOKENIZER] : SLOW_TOKENIZERS;
  const index = has.has(SINGLE) ? [] : [INDEX]; // the reader prefers the single file likewise
  return [CONFIG, ...index, ...BESIDES, ...tokenizer].filter((name) => has.has(name));
}

/** Files of weights: `names` are a model's files, and its small ones lie in `directory`. @throws ModelError */
export async function weightFiles(names: readonly string[], directory: string): Promise<string[]> {
  return names.includes(SINGLE) ? [SINGLE] : readShards(join(directory, INDEX));
}

/** Shards that an index lists. @throws ModelError where it is damaged */
async function readShards(path: string): Promise<string[]> {
  const damaged = (cause?: unknown): ModelError =>
    new ModelError("CHECKPOINT_INVALID", `${path}: is no index of safetensors`, {
      hint: "Choose another revision of the model, or tell its author.",
      cause,
    });
  let map: object | null | undefined;
  try {
    map = (JSON.parse(await readFile(path, "utf8")) as { readonly weight_map?: object | null }).weight_map;
  } catch (cause) {
    throw damaged(cause);
  }
  const shards: unknown[] = [...new Set(Object.values(map ?? {}))];
  const plain = shards.filter(
    (name): name is string => typeof name === "string" && name !== "" && basename(name) === name,
  );
  if (shards.length === 0 || plain.length < shards.length) throw damaged();
  return plain;
}

/** The first file of `part` that `directory` lacks; undefined where it is whole. A tokenizer is not asked for. */
export async function missingFile(directory: string, part: ModelPart): Promise<string | undefined> {
  const lacks = (name: string): boolean => !existsSync(join(directory, name));
  if (lacks(CONFIG)) return CONFIG;
  if (part === "config" || !lacks(SINGLE)) return undefined;
  if (lacks(INDEX)) return SINGLE;
  return (await readShards(join(directory, INDEX))).find(lacks);
}

/** True where a snapshot has a tokenizer; some models have none. */
export const hasTokenizer = (directory: string): boolean =>
  [FAST_TOKENIZER, ...SLOW_TOKENIZERS].some((name) => existsSync(join(directory, name)));
