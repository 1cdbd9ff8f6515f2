/** The files of a base checkpoint: safetensors, index, quant_state, config.json of each model. */
import { dirname } from "node:path";
import { openCheckpoint, readFloats, readIndex, readModelConfig } from "../../core/formats/checkpoint.ts";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { read4bit, readQuantState } from "../../core/formats/nf4-checkpoint.ts";
import type { TensorInfo } from "../../core/formats/safetensors-header.ts";
import { type TensorSource } from "../../core/formats/safetensors.ts";
import { parseGemma2Config } from "../../plugins/gemma2/config.ts";
import { gemma2Outline } from "../../plugins/gemma2/outline.ts";
import { gemma2, llama } from "../../plugins/index.ts";
import { parseLlamaConfig } from "../../plugins/llama/config.ts";
import { llamaOutline } from "../../plugins/llama/outline.ts";
import { fileHost, openFolder, openSafetensors } from "../../runtime/files/folder.ts";
import { checkBaseHeaders } from "../../runtime/session/base-headers.ts";
import { mergedConfig } from "../../sdk/merge/config.ts";
import { choosePadding } from "../../sdk/merge/padding.ts";
import { looseConfig, looseTensors, type LooseTensors, packTensors } from "../formats/malformed.ts";
import { fuzz, inFile } from "./harness.ts";

const tensors = looseTensors();
const only = (wanted: (name: string) => boolean): LooseTensors =>
  new Map([...tensors].filter(([name]) => wanted(name)));
const plain: LooseTensors = new Map([
  ["a", { dtype: "F32", shape: [2, 3], bytes: Buffer.alloc(24) }],
  ["b", { dtype: "BF16", shape: [4], bytes: Buffer.alloc(8) }],
  ["empty", { dtype: "I64", shape: [0, 7], bytes: Buffer.alloc(0) }],
]);
const Q = "model.layers.0.self_attn.k_proj.weight";
const oneLinear = packTensors(only((name) => name.startsWith(Q)));
const gemma = JSON.stringify(looseConfig());
const llamaConfig = JSON.stringify({
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 64,
  intermediate_size: 128,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 500000,
  vocab_size: 128,
  quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true, bnb_4bit_quant_type: "nf4" },
  id2label: { 0: "a", 1: "b" },
});
const qwen = JSON.stringify({
  ...JSON.parse(llamaConfig),
  model_type: "qwen2",
  rope_scaling: null,
  use_sliding_window: true,
  sliding_window: 64,
  max_window_layers: 1,
});

fuzz({
  name: "safetensors",
  kind: "safetensors",
  corpus: [packTensors(plain), oneLinear],
  run: async (input) => {
    await using file = await openSafetensors(inFile(input, "x.safetensors"));
    let bytes = 0;
    for (const [name, { begin, end }] of file.tensors) {
      const read = await file.read(name);
      if (read.length !== end - begin) throw new Error(`${name} has ${read.length} bytes`);
      bytes += read.length;
    }
    if (bytes > input.bytes.length) throw new Error(`${bytes} bytes of a file of ${input.bytes.length}`);
  },
});

fuzz({
  name: "safetensors-bytes",
  kind: "bytes",
  corpus: [packTensors(plain)],
  run: async (input) => {
    await using file = await openSafetensors(inFile(input, "y.safetensors"));
    for (const [name, { dtype }] of file.tensors) if (dtype === "F32") await readFloats(file, name);
  },
});

fuzz({
  name: "nf4-file",
  kind: "safetensors",
  corpus: [oneLinear],
  run: async (input) => {
    await using file = await openSafetensors(inFile(input, "z.safetensors"));
    const { shape, codes } = await read4bit(file, Q, [64, 128]);
    if (shape[0] !== 64 || codes.length !== 4096) throw new Error(`[${shape.join(",")}] of ${codes.length} bytes`);
  },
});

fuzz({
  name: "safetensors-index",
  kind: "json",
  corpus: [
    JSON.stringify({ metadata: { total_size: 8 }, weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } }),
  ],
  run: async (input) => {
    for (const shard of (await readIndex(openFolder(dirname(inFile(input, "model.safetensors.index.json"))))).values())
      if (typeof shard !== "string" || /[/\\\0]/.test(shard) || shard === "..") throw new Error(`shard ${shard}`);
  },
});

const state = tensors.get(`${Q}.quant_state.bitsandbytes__nf4`)!.bytes;
fuzz({
  name: "quant-state",
  kind: "json",
  corpus: [state],
  run: async ({ bytes }) => {
    const infos = new Map<string, TensorInfo>();
    for (const [name, { dtype, shape, bytes: own }] of only((key) => key.startsWith(Q)))
      infos.set(name, { dtype: dtype as TensorInfo["dtype"], shape, begin: 0, end: own.length });
    const source = { tensors: infos, pathOf: () => "file", read: async () => Uint8Array.from(bytes) };
    const { shape, nestedOffset } = await readQuantState(source as unknown as TensorSource, Q);
    if (shape[0] * shape[1] !== 64 * 128) throw new Error(`[${shape.join(",")}]`);
    if (nestedOffset !== undefined && !Number.isFinite(nestedOffset)) throw new Error(`offset ${nestedOffset}`);
  },
});

const objectOf = (text: string): Readonly<Record<string, unknown>> => parseJsonObject(text, damaged("config.json", ""));

/** Every size is what a layer can be made of. */
function sound(rows: readonly { readonly name: string; readonly shape: readonly number[] }[]): void {
  for (const { name, shape } of rows)
    if (!shape.every((n) => Number.isSafeInteger(n) && n > 0)) throw new Error(`${name} is [${shape.join(",")}]`);
}

fuzz({
  name: "gemma2-config",
  kind: "value",
  corpus: [gemma],
  run: ({ text }) => sound(gemma2Outline(parseGemma2Config(objectOf(text), "config.json"), 3).baseParameters),
});

fuzz({
  name: "llama-config",
  kind: "value",
  corpus: [llamaConfig, qwen],
  run: ({ text }) => sound(llamaOutline(parseLlamaConfig(objectOf(text), "config.json"), 3).baseParameters),
});

fuzz({
  name: "config-file",
  kind: "json",
  corpus: [gemma, llamaConfig, qwen],
  run: async (input) => {
    const folder = dirname(inFile(input, "config.json"));
    const model = (await readModelConfig(openFolder(folder)))["model_type"] === "gemma2" ? gemma2 : llama;
    sound(
      (await model({ checkpoint: folder }).create(fileHost).outline(2)).linears.map(
        ({ name, inFeatures, outFeatures }) => ({
          name,
          shape: [inFeatures, outFeatures],
        }),
      ),
    );
    const changes = { pad_token_id: (await choosePadding(folder))?.id ?? null };
    await mergedConfig(folder, changes, { numLabels: 2, task: "classification" });
  },
});

const whole = packTensors(tensors);
const outline = gemma2Outline(parseGemma2Config(looseConfig(), "config.json"), 3);
fuzz({
  name: "checkpoint-headers",
  kind: "safetensors",
  corpus: [whole],
  inputs: 25,
  run: async (input) => {
    const folder = dirname(inFile(input, "model.safetensors"));
    inFile({ bytes: Buffer.from(gemma), text: gemma }, "config.json");
    const unread = await checkBaseHeaders(folder, outline, "all");
    await using checkpoint = await openCheckpoint(openFolder(folder));
    for (const name of unread) if (!checkpoint.tensors.has(name)) throw new Error(`${name} is not there`);
  },
});
