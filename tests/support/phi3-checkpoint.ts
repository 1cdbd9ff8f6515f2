/** The tiny Llama as a Phi-3: queries, keys and values fused into one weight, gate and up into one, the numbers the same. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { readNf4 } from "./nf4.ts";
import { goldenPath } from "./reference.ts";

const tiny = goldenPath("plugins", "tiny-llama-nf4");

/** The parts of each fused linear, in the order of its rows. */
export const FUSED: Readonly<Record<string, readonly string[]>> = {
  "self_attn.qkv_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  "self_attn.o_proj": ["self_attn.o_proj"],
  "mlp.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"],
  "mlp.down_proj": ["mlp.down_proj"],
};

/** Partial rotary embedding and longrope as Phi-4-mini has them, at the tiny model's head size of 16: 12 columns are turned. */
export const LONGROPE = {
  partial_rotary_factor: 0.75,
  max_position_embeddings: 2048,
  original_max_position_embeddings: 64,
  sliding_window: 20,
  rope_scaling: { type: "longrope", short_factor: [1, 1.1, 1.2, 1.4, 1.9, 2.5], long_factor: [1, 2, 3, 4, 5, 6] },
};

type Json = Record<string, unknown>;

/** The tiny Llama's config.json without RoPE scaling, which Phi-3 has another of. */
async function llamaConfig(): Promise<Json> {
  const { rope_parameters: _, ...json } = JSON.parse(await readFile(join(tiny, "config.json"), "utf8")) as Json;
  return { ...json, rope_theta: 500_000 };
}

/** The tiny Llama with plain RoPE, into a folder that exists. */
export async function writePlainLlama(folder: string): Promise<void> {
  await writeFile(join(folder, "model.safetensors"), await readFile(join(tiny, "model.safetensors")));
  await writeFile(join(folder, "config.json"), JSON.stringify(await llamaConfig()));
}

/**
 * The same as Phi-3, into a folder that exists. Scales of blocks are kept as f32: double quantization would round those of fused weights anew.
 * @param changes of config.json
 */
export async function writePhi3(folder: string, changes: Readonly<Json> = {}): Promise<void> {
  const config = {
    ...(await llamaConfig()),
    architectures: ["Phi3ForCausalLM"],
    model_type: "phi3",
    sliding_window: null,
    ...changes,
  };
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  await using file = await openSafetensors(join(tiny, "model.safetensors"));
  const tensors: [string, { dtype: "BF16" | "F32" | "U8"; shape: readonly number[]; data: ArrayBufferView }][] = [];
  for (const [name, { dtype, shape }] of file.tensors) {
    if (dtype === "BF16") tensors.push([name, { dtype, shape, data: await file.read(name) }]);
  }
  const layers = Number((await llamaConfig())["num_hidden_layers"]);
  for (let layer = 0; layer < layers; layer++)
    for (const [fused, parts] of Object.entries(FUSED)) {
      const names = parts.map((part) => `model.layers.${layer}.${part}.weight`);
      const codes = Buffer.concat(await Promise.all(names.map((name) => file.read(name))));
      const absmax: number[] = [];
      for (const name of names) {
        const scales = await readNf4(file, name, ({ map, nested, offset }) => Math.fround(map * nested) + offset);
        absmax.push(...scales.filter((_, i) => i % 64 === 0));
      }
      const rows = await Promise.all(names.map(async (name) => (await stateOf(file, name)).shape));
      const shape = [rows.reduce((sum, [out]) => sum + out, 0), rows[0]![1]];
      const state = new TextEncoder().encode(
        JSON.stringify({ quant_type: "nf4", blocksize: 64, dtype: "bfloat16", shape }),
      );
      const name = `model.layers.${layer}.${fused}.weight`;
      tensors.push(
        [name, { dtype: "U8", shape: [codes.length, 1], data: codes }],
        [`${name}.absmax`, { dtype: "F32", shape: [absmax.length], data: Float32Array.from(absmax) }],
        [`${name}.quant_map`, { dtype: "F32", shape: [16], data: await file.read(`${names[0]}.quant_map`) }],
        [`${name}.quant_state.bitsandbytes__nf4`, { dtype: "U8", shape: [state.length], data: state }],
      );
    }
  await writeSafetensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
}

async function stateOf(
  file: { read(name: string): Promise<Uint8Array> },
  name: string,
): Promise<{ readonly shape: readonly [number, number] }> {
  return JSON.parse(new TextDecoder().decode(await file.read(`${name}.quant_state.bitsandbytes__nf4`)));
}
