/** A base in 16 bits, quantized as it is loaded, is the base that bitsandbytes quantized: the same bits come out. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { PIECE_BYTES } from "../../core/device/staging.ts";
import { readAdapterConfig } from "../../core/formats/peft.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { TensorStream } from "../../core/formats/tensor-stream.ts";
import type { ModelPlugin } from "../../core/plugin/model.ts";
import { freeWeight } from "../../kernels/nf4/index.ts";
import { WeightQuantizer } from "../../kernels/nf4/load-quantized.ts";
import { gemma3, lora, qwen3 } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { fileHost, openFolder } from "../../runtime/files/folder.ts";
import { openBaseModel } from "../../runtime/session/base-model.ts";
import { readLogits } from "../../runtime/training/forward.ts";
import { sameBits } from "../formats/support.ts";
import { failure } from "../support/failure.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { pluginSession, samplesFrom } from "../support/session.ts";

const [tier] = tiers;
const turn2 = (name: string): string => goldenPath("turn2", name);

async function logits(model: string, plugin: ModelPlugin): Promise<Float32Array> {
  const adapter = join(turn2(`parity-${model}`), "adapter");
  const loraPlugin = lora.fromConfig(await readAdapterConfig(openFolder(adapter)));
  using session = await pluginSession(tier!, plugin.create(fileHost), loraPlugin, adapter);
  return await readLogits(
    session,
    samplesFrom([
      { input_ids: [2, 154, 1], label: 0 },
      { input_ids: [2, 14, 309, 163, 1], label: 1 },
    ]),
  );
}

describe.skipIf(tier === undefined)("quantized at load", () => {
  test("qwen3 from bf16 gives the logits of its NF4 checkpoint, bit for bit", async () => {
    const got = await logits("qwen3", qwen3({ checkpoint: turn2("tiny-qwen3-bf16") }));
    expect(sameBits(got, await logits("qwen3", qwen3({ checkpoint: turn2("tiny-qwen3-nf4") })))).toBe(true);
    const dense = await logits("qwen3", qwen3({ checkpoint: turn2("tiny-qwen3-bf16"), loadIn4bit: false }));
    expect(sameBits(got, dense)).toBe(false);
  }, 120_000);

  test("gemma3 from bf16 gives the logits of its NF4 checkpoint, bit for bit", async () => {
    const got = await logits("gemma3", gemma3({ checkpoint: turn2("tiny-gemma3-bf16") }));
    expect(sameBits(got, await logits("gemma3", gemma3({ checkpoint: turn2("tiny-gemma3-nf4") })))).toBe(true);
  }, 120_000);

  test("modules that bitsandbytes left in 16 bits stay so by the same names", async () => {
    const skipped = ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn", "model.layers.2.mlp.gate_proj"];
    const got = await logits("qwen3", qwen3({ checkpoint: turn2("tiny-qwen3-bf16"), llmInt8SkipModules: skipped }));
    expect(sameBits(got, await logits("qwen3", qwen3({ checkpoint: turn2("tiny-qwen3-dynamic-nf4") })))).toBe(true);
  }, 120_000);

  test("a weight is read in pieces, whatever its size", async () => {
    const gpu = await gpuOf(tier!);
    const [outFeatures, inFeatures] = [4096, 5120];
    const reads: number[] = [];
    const info = {
      dtype: "BF16",
      shape: [outFeatures, inFeatures],
      begin: 0,
      end: outFeatures * inFeatures * 2,
    } as const;
    const source: TensorSource = {
      tensors: new Map([["a.weight", info]]),
      pathOf: () => "file",
      read: () => Promise.reject(new Error("read whole")),
      readInto: async (_, target) => {
        reads.push(target.length);
        new Uint16Array(target.buffer, target.byteOffset, target.length / 2).fill(0x3c80);
      },
      stream: () => {
        throw new Error("read on the host");
      },
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    };
    using stream = new TensorStream(gpu, source);
    const quantizer = new WeightQuantizer(gpu, stream, 1);
    const to = { quantType: "nf4", blockSize: 64, doubleQuant: true } as const;
    freeWeight(gpu, await quantizer.load({ name: "a", outFeatures, inFeatures }, to));
    await quantizer.finish();
    expect(reads).toEqual([PIECE_BYTES, PIECE_BYTES, info.end - 2 * PIECE_BYTES]);
  }, 60_000);
});

test("what a base in 16 bits becomes is said, and what asks a quantized one for more is refused", async () => {
  const told: string[] = [];
  const onEvent = (event: RunEvent): void => void (event.type === "info" && told.push(event.message));
  const checkpoint = turn2("tiny-qwen3-bf16");
  await openBaseModel(qwen3({ checkpoint }), { onEvent });
  await openBaseModel(
    qwen3({ checkpoint, bnb4bitQuantType: "fp4", bnb4bitUseDoubleQuant: false, bnb4bitBlocksize: 128 }),
    { onEvent },
  );
  await openBaseModel(qwen3({ checkpoint, loadIn4bit: false }), { onEvent });
  expect(told).toEqual([
    `${checkpoint}: 21 linears in BF16 are quantized to nf4 with double quantization as they are loaded (--quantization none keeps them)`,
    `${checkpoint}: 21 linears in BF16 are quantized to fp4 without double quantization, blocks of 128 as they are loaded (--quantization none keeps them)`,
  ]);
  const packed = turn2("tiny-qwen3-nf4");
  for (const [choice, says] of [
    [{ loadIn4bit: false }, "the weights are quantized to nf4 already, but loadIn4bit is false"],
    [{ bnb4bitQuantType: "fp4" }, "the weights are quantized to nf4 already, but bnb4bitQuantType is fp4"],
    [{ bnb4bitBlocksize: 128 }, "the weights are quantized already, but bnb4bitBlocksize is 128"],
  ] as const) {
    expect(await failure(openBaseModel(qwen3({ checkpoint: packed, ...choice })))).toContain(says);
  }
});
