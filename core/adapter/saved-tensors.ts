/**
 * adapter_model.safetensors of a trained adapter, its tensors under the names that PEFT saves. Files that hold keys of a
 * state_dict (`lora_A.default.weight`, `score.modules_to_save.default.weight`) are read as what PEFT would have saved of it.
 * Source: huggingface/peft, utils/save_and_load.py.
 */
import { ModelError } from "../errors.ts";
import type { Folder } from "../formats/bytes.ts";
import { ADAPTER_WEIGHTS_FILE } from "../formats/peft.ts";
import type { TensorInfo } from "../formats/safetensors-header.ts";
import { missingTensor, openSafetensors, type SafetensorsFile, type TensorSource } from "../formats/safetensors.ts";

const PICKLED = "adapter_model.bin";

/**
 * Opens an adapter's tensors, by their names in PEFT's files; reads the header only.
 * @throws ModelError SAFETENSORS_MISSING, SAFETENSORS_INVALID, or ADAPTER_TENSOR_UNKNOWN where the file holds what is no adapter's
 */
export async function openAdapterTensors(folder: Folder): Promise<SafetensorsFile> {
  if (!(await folder.has(ADAPTER_WEIGHTS_FILE)) && (await folder.has(PICKLED))) {
    throw new ModelError(
      "SAFETENSORS_MISSING",
      `${folder.name}: the weights are pickled (${PICKLED}), expected ${ADAPTER_WEIGHTS_FILE}`,
      {
        hint: "Save the adapter again with PEFT: save_pretrained(folder, safe_serialization=True).",
      },
    );
  }
  const file = await openSafetensors(folder, ADAPTER_WEIGHTS_FILE);
  try {
    return renamed(file, savedNames(file));
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Names in the file by the names that PEFT saves; what PEFT would not have saved is left out. */
function savedNames({ path, tensors }: SafetensorsFile): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const adapters = new Set<string>();
  for (const stored of tensors.keys()) {
    const { name, adapter } = savedName(stored);
    if (name === undefined) continue;
    if (adapter !== undefined) adapters.add(adapter);
    const twin = names.get(name);
    if (twin !== undefined || adapters.size > 1) {
      const what = twin === undefined ? `of the adapters ${[...adapters].join(" and ")}` : `${twin} and ${stored}`;
      throw new ModelError(
        "ADAPTER_TENSOR_UNKNOWN",
        `${path}: it holds tensors ${what}, expected those of one adapter`,
        {
          hint: "Save one adapter with PEFT: save_pretrained(folder, selected_adapters=[name]).",
        },
      );
    }
    names.set(name, stored);
  }
  return names;
}

/** What PEFT calls a tensor of a state_dict; no name where it saves no such thing. */
function savedName(stored: string): { readonly name: string | undefined; readonly adapter?: string } {
  const plain = stored.replace(/^module\./, "").replaceAll("_orig_mod.", "");
  if (plain.includes(".original_module.")) return { name: undefined };
  const whole = /^(.*)\.modules_to_save\.([^.]+)\.(.+)$/.exec(plain);
  if (whole !== null) return { name: `${whole[1]}.${whole[3]}`, adapter: whole[2]! };
  const low = /^(.*\.lora_[AB])\.([^.]+)\.weight$/.exec(plain);
  if (low !== null) return { name: `${low[1]}.weight`, adapter: low[2]! };
  const vector = /^(.*\.(?:lora_magnitude_vector|ia3_l|vera_lambda_[bd]|vera_[AB]))\.([^.]+)(?:\.weight)?$/.exec(plain);
  if (vector === null) return { name: plain };
  // `lora_magnitude_vector.weight` is how one version saved it: there, weight is no adapter's name.
  return vector[2] === "weight" ? { name: vector[1]! } : { name: vector[1]!, adapter: vector[2]! };
}

function renamed(file: SafetensorsFile, names: ReadonlyMap<string, string>): SafetensorsFile {
  const stored = (name: string): string => {
    const found = names.get(name);
    if (found === undefined) throw missingTensor(file.path, name);
    return found;
  };
  const tensors = new Map<string, TensorInfo>([...names].map(([name, key]) => [name, file.tensors.get(key)!]));
  const source: TensorSource = {
    tensors,
    pathOf: () => file.path,
    read: async (name) => file.read(stored(name)),
    readInto: async (name, target, offset) => file.readInto(stored(name), target, offset),
    stream: (name, chunkBytes) => file.stream(stored(name), chunkBytes),
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  };
  return { ...source, path: file.path, metadata: file.metadata };
}

/** Tensors that PEFT saves beside an adapter and that a classifier does not have. */
export const isUnused = (name: string): boolean => /^(?:base_model\.model\.)?lm_head\.[^.]+$/.test(name);

const EMBEDDINGS = /(?:^|\.)embed_tokens\.|\.lora_embedding_[AB]/;
const OF_THE_BASE = /\.base_layer\.|\.(?:absmax|quant_map|nested_absmax|nested_quant_map)$|\.quant_state\./;

/** Tensors that no adapter of linears has, whatever the base model. */
export const isUnsupported = (name: string): boolean => EMBEDDINGS.test(name) || OF_THE_BASE.test(name);

/** A head of one logit has no classes: a softmax over it is 1 whatever it says. */
export function oneLogit(where: string): ModelError {
  return new ModelError(
    "HEAD_OF_ONE_LOGIT",
    `${where} has one logit, that of a regression or a reward model, expected two classes or more`,
    { hint: "Leave --task out, or give --task regression or --task reward." },
  );
}

/** Why a tensor has no place, from its name. */
export function surplusTensor(path: string, name: string): ModelError {
  const { code, message, hint } = explain(name);
  return new ModelError(code, `${path}: tensor "${name}" ${message}`, { hint });
}

function explain(name: string): { readonly code: string; readonly message: string; readonly hint: string } {
  const code = "ADAPTER_TENSOR_UNKNOWN";
  if (/\.lora_embedding_[AB]/.test(name)) {
    return {
      code: "ADAPTER_EMBEDDINGS",
      message: "is LoRA of the embedding layer, which is not supported: linears of the layers are",
      hint: "Train an adapter whose target_modules name linears alone.",
    };
  }
  if (EMBEDDINGS.test(name)) {
    return {
      code: "ADAPTER_EMBEDDINGS",
      message:
        "is an embedding layer saved beside the adapter, which takes the place of the base's: that is not supported",
      hint: "PEFT saves it after resize_token_embeddings or where modules_to_save or target_modules name it. Where the embeddings were not changed, save again with save_pretrained(folder, save_embedding_layers=False).",
    };
  }
  if (OF_THE_BASE.test(name)) {
    return {
      code,
      message: "is a weight of the base model, expected the adapter's alone",
      hint: "This is a state_dict of the whole model: save the adapter with PEFT's save_pretrained.",
    };
  }
  if (/\.(?:lora_[AB]\.weight|lora_magnitude_vector|ia3_l|vera_lambda_[bd])$/.test(name)) {
    return {
      code,
      message: "has no place in the configured adapter",
      hint: "adapter_config.json (or the config) names other target modules or layers than the adapter was trained with, or the base model is another: name it with --base-model.",
    };
  }
  return {
    code,
    message: "is of a module trained whole (modules_to_save), and of those the score head alone is supported",
    hint: "Train the adapter with modules_to_save naming the score head alone.",
  };
}
