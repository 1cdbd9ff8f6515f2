/** A planned run compiles its kernels while it loads: the first step finds all of them. */
import { describe, expect, test } from "bun:test";
import { openPlanned } from "../../core/planning/open.ts";
import type { Session } from "../../core/session.ts";
import { openSession } from "../../core/session.ts";
import { accumulateGradients } from "../../core/step.ts";
import { engine } from "../../kernels/engine.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

describe.skipIf(tiers.length === 0)("kernels of a planned run", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const) {
    test(`${provider}: a step compiles nothing`, async () => {
      const source = gemma2({ checkpoint: tinyCheckpoint }).create();
      const adapter = lora({ rank: 8, alpha: 16, dropout: 0.1, targetModules: ["q_proj", "gate_proj"] });
      const device = { gpu: provider, tier: "f32" } as const;
      const lengths = [40, 17, 3];
      const make = ({ gpu, parameters }: Session) => adamW8bit().create({ gpu, parameters });
      const common = { source, adapter, numLabels: 3 };
      const work = { ...common, optimizer: make, steps: [lengths], maxSamples: undefined, maxEvalSamples: undefined };
      const { gpu, kernels } = await openPlanned({ device, mode: "auto", given: {}, work }, engine);
      const compiled: string[] = [];
      const compile = gpu.device.createComputePipeline.bind(gpu.device);
      const compileLater = gpu.device.createComputePipelineAsync.bind(gpu.device);
      gpu.device.createComputePipeline = (descriptor) => {
        compiled.push(descriptor.label!);
        return compile(descriptor);
      };
      gpu.device.createComputePipelineAsync = (descriptor) => {
        compiled.push(descriptor.label!);
        return compileLater(descriptor);
      };
      using session = await openSession({ ...common, device, gpu, kernels, seed: 1 });
      expect(compiled.length).toBeGreaterThan(15);
      expect(new Set(compiled).size).toBe(compiled.length);
      const before = compiled.length;
      const optimizer = make(session);
      const control = gpu.alloc([4], "f32", "control", "optimizer");
      const samples = lengths.map((tokens, index) => ({
        index,
        inputIds: new Uint32Array(tokens).fill(7),
        label: index,
      }));
      const settings = { limits: { maxTokens: 1000 }, checkpointing: "none", lossScale: 1, stepKey: 0 } as const;
      gpu.free(await accumulateGradients(session, engine, samples, settings));
      engine.gradNorm(gpu, session.parameters.slabs, control, { lossScale: 1, maxNorm: 1 });
      optimizer.step({ learningRate: 1e-4, update: 1, control });
      await gpu.idle();
      expect(compiled.slice(before)).toEqual([]);
      optimizer.destroy();
    }, 120_000);
  }
});
