/**
 * A training step like those before meets the same buffers, so it makes no bind groups: they would cost time and host
 * memory. The first steps may: they make the buffers.
 */
import { describe, expect, test } from "bun:test";
import { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import { gradNorm } from "../../kernels/grad-norm/index.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { openSessionOn } from "../../runtime/session/session.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { tinyCheckpoint } from "../support/reference.ts";

describe.each(["none", "block"] as const)("gradient checkpointing %s", (checkpointing) => {
  test("the fifth of five equal steps makes no bind groups", async () => {
    // Encodes as on a device that does nothing.
    const { device, info } = metaGpu(NVIDIA);
    let made = 0;
    device.createBindGroup = () => {
      made++;
      return {} as GPUBindGroup;
    };
    const gpu = new Gpu(device, info);
    const session = await openSessionOn(gpu, {
      source: gemma2({ checkpoint: tinyCheckpoint }).create(fileHost),
      adapter: lora({ rank: 8, dropout: 0.05, targetModules: "all-linear" }),
      numLabels: 3,
      seed: 1,
    });
    const optimizer = adamW8bit().create({ gpu, parameters: session.parameters });
    const gradState = gpu.alloc([4], "f32", "gradState", "optimizer");
    const samples = [100, 3, 64, 64, 17, 90].map((tokens, index) => ({
      index,
      inputIds: new Uint32Array(tokens),
      label: 0,
    }));
    const counts: number[] = [];
    for (let update = 1; update <= 5; update++) {
      made = 0;
      const settings = { limits: { maxTokens: 128 }, checkpointing, lossScale: 1024, stepKey: update } as const;
      gpu.free(await accumulateGradients(session, samples, settings));
      gradNorm(gpu, session.parameters.slabs, gradState, { lossScale: 1024, maxNorm: 1 });
      optimizer.step({ learningRate: 1e-4, update, gradState });
      counts.push(made);
    }
    expect(counts[0]).toBeGreaterThan(100);
    expect(counts[4]).toBe(0);
  });
});
