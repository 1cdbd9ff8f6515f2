/** Which files of a model are needed, and whether a folder holds them all. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { describeMissing, readIndex } from "../../core/formats/checkpoint.ts";
import { openFolder } from "../files/folder.ts";

/** `config` is what is needed to know a model's shape; `all` adds tokenizer and weights; `adapter` is what PEFT saved in its place. */
export type ModelPart = "config" | "all" | "adapter";

const CONFIG = "config.json";
const ADAPTER = "adapter_config.json";
const ADAPTER_WEIGHTS = "adapter_model.safetensors";
/** What qlora leaves beside an adapter. */
const ADAPTER_BESIDES = ["qlora.json"];
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

/** Files beside the weights, in the order in which they can tell that something is wrong. */
interface SmallFiles {
  readonly config: string;
  /** None where the weights are one file. */
  readonly index: readonly string[];
  readonly others: readonly string[];
}

/** Small files of `part` that a model has: everything but the shards, which the index lists. */
export function smallFiles(id: string, names: readonly string[], part: ModelPart): SmallFiles {
  const has = new Set(names);
  if (part === "adapter") return adapterFiles(id, has);
  if (!has.has(CONFIG)) {
    const instead = has.has(ADAPTER) ? "a PEFT adapter" : names.some((name) => name.endsWith(".gguf")) ? "GGUF" : "";
    throw new ModelError(
      "HUB_NO_CHECKPOINT",
      `${id} has no ${CONFIG}: it is ${instead === "" ? "" : `${instead}, `}no transformers checkpoint`,
      {
        hint: has.has(ADAPTER)
          ? `Give the base model here, which its ${ADAPTER} names; download the adapter's folder to run it.`
          : "Give a model in Hugging Face's layout, such as unsloth/gemma-2-9b-it-bnb-4bit.",
      },
    );
  }
  if (part === "config") return { config: CONFIG, index: [], others: [] };
  if (!has.has(SINGLE) && !has.has(INDEX)) {
    throw new ModelError("HUB_NO_SAFETENSORS", `${id} has neither ${SINGLE} nor ${INDEX}`, {
      hint: "Only weights saved as safetensors are read.",
    });
  }
  const tokenizer = has.has(FAST_TOKENIZER) ? [FAST_TOKENIZER] : SLOW_TOKENIZERS;
  const index = has.has(SINGLE) ? [] : [INDEX]; // the reader prefers the single file likewise
  return { config: CONFIG, index, others: [...BESIDES, ...tokenizer].filter((name) => has.has(name)) };
}

/** @throws ModelError where a repository holds no adapter, or a pickled one */
function adapterFiles(id: string, has: ReadonlySet<string>): SmallFiles {
  if (!has.has(ADAPTER)) {
    throw new ModelError("HUB_NO_ADAPTER", `${id} has no ${ADAPTER}: it is no adapter of PEFT`, {
      hint: "Name a run's folder, a PEFT adapter's, or an adapter on the hub as org/name.",
    });
  }
  if (!has.has(ADAPTER_WEIGHTS)) {
    const pickled = has.has("adapter_model.bin");
    const instead = pickled ? ", but adapter_model.bin, a pickle, which may run code when it is loaded" : "";
    throw new ModelError("HUB_NO_SAFETENSORS", `${id} has no ${ADAPTER_WEIGHTS}${instead}`, {
      hint: pickled
        ? "Save it again where you trust it: PeftModel.from_pretrained(base, ADAPTER).save_pretrained(FOLDER) writes safetensors."
        : "Only weights saved as safetensors are read.",
    });
  }
  return { config: ADAPTER, index: [], others: ADAPTER_BESIDES.filter((name) => has.has(name)) };
}

/**
 * Files of weights: `names` are a model's files, and its small ones lie in `directory`.
 * @throws ModelError where the index is damaged, or names shards that the model has not
 */
export async function weightFiles(
  id: string,
  names: readonly string[],
  directory: string,
  part: ModelPart = "all",
): Promise<string[]> {
  if (part === "adapter") return [ADAPTER_WEIGHTS];
  if (names.includes(SINGLE)) return [SINGLE];
  const places = await readIndex(openFolder(directory));
  const lost = describeMissing(places, (shard) => names.includes(shard));
  if (lost === undefined) return [...new Set(places.values())];
  throw new ModelError("HUB_FILE_NOT_FOUND", `${id}: ${lost}`, {
    hint: `Its ${INDEX} names more than was uploaded; choose another revision or repository, or tell its author.`,
  });
}

/** The first file of `part` that `directory` lacks; undefined where it is whole. A tokenizer is not asked for. */
export async function missingFile(directory: string, part: ModelPart): Promise<string | undefined> {
  const lacks = (name: string): boolean => !existsSync(join(directory, name));
  if (part === "adapter") return [ADAPTER, ADAPTER_WEIGHTS].find(lacks);
  if (lacks(CONFIG)) return CONFIG;
  if (part === "config" || !lacks(SINGLE)) return undefined;
  if (lacks(INDEX)) return SINGLE;
  return [...(await readIndex(openFolder(directory))).values()].find(lacks);
}

/** True where a snapshot has a tokenizer; some models have none. */
export const hasTokenizer = (directory: string): boolean =>
  [FAST_TOKENIZER, ...SLOW_TOKENIZERS].some((name) => existsSync(join(directory, name)));
