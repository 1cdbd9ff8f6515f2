/** A planned run compiles its kernels while it loads: the first step finds all of them. */
import { describe, expect, test } from "bun:test";
import { NVIDIA } from "../../core/device/index.ts";
import { MemoryAccount } from "../../core/planning/account.ts";
import { planMemory } from "../../core/planning/plan.ts";
import { openPlanned } from "../../core/planning/open.ts";
import type { Session } from "../../core/session.ts";
import { openSession } from "../../core/session.ts";
import { accumulateGradients } from "../../core/step.ts";
import { engine } from "../../kernels/engine.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

test("kernels come from the model that was measured, loaded once; where others were tried too, from one of its own", async () => {
  const plugin = gemma2({ checkpoint: tinyCheckpoint }).create();
  let loads = 0;
  const source = {
    ...plugin,
    load: (context: Parameters<typeof plugin.load>[0]) => {
      loads++;
      return plugin.load(context);
    },
  };
  const account = (): MemoryAccount =>
    new MemoryAccount(
      {
        source,
        adapter: lora({ rank: 8, targetModules: ["q_proj"] }),
        numLabels: 3,
        training: {
          optimizer: ({ gpu, parameters }) => adamW8bit().create({ gpu, parameters }),
          steps: [[256, 256, 256, 256]],
          maxSamples: undefined,
        },
      },
      NVIDIA,
      engine,
    );
  const given = { placement: { embeddings: "device", keepDequantised: false } } as const;
  const plan = (from: MemoryAccount, bytes: number) =>
    planMemory(from, { mode: "auto", given, budget: { bytes, source: "given" }, keeps: true });
  const keys = (kernels: ReadonlyMap<string, unknown>): string[] => [...kernels.keys()].toSorted();

  const roomy = account();
  const { settings, figures } = await plan(roomy, 2 ** 40);
  const kernels = keys(await roomy.kernels(settings));
  expect(kernels.length).toBeGreaterThan(15);
  expect(loads).toBe(1);
  expect(keys(await account().kernels(settings))).toEqual(kernels);

  loads = 0;
  const tight = account();
  const less = await plan(tight, figures.peak - 1);
  expect(less.settings).not.toEqual(settings);
  const fresh = keys(await account().kernels(less.settings));
  expect(keys(await tight.kernels(less.settings))).toEqual(fresh);
  expect(loads).toBe(3);
});

describe.skipIf(tiers.length === 0)("kernels of a planned run", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const) {
    test(`${provider}: a step compiles nothing`, async () => {
      const source = gemma2({ checkpoint: tinyCheckpoint }).create();
      const adapter = lora({ rank: 8, alpha: 16, dropout: 0.1, targetModules: ["q_proj", "gate_proj"] });
      const device = { gpu: provider, tier: "f32" } as const;
      const lengths = [40, 17, 3];
      const make = ({ gpu, parameters }: Session) => adamW8bit().create({ gpu, parameters });
      const training = { optimizer: make, steps: [lengths], maxSamples: undefined };
      const common = { source, adapter, numLabels: 3 };
      const work = { ...common, training };
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
