/** A planned run compiles its kernels while it loads: the first step finds all of them. */
import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA } from "../../core/device/meta.ts";
import { gradNorm } from "../../kernels/grad-norm/index.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { MemoryAccount } from "../../runtime/planning/account.ts";
import { KernelWarmup } from "../../runtime/planning/kernel-warmup.ts";
import { MetaRun } from "../../runtime/planning/meta-run.ts";
import { openPlanned } from "../../runtime/planning/open.ts";
import { planMemory } from "../../runtime/planning/plan.ts";
import type { MemorySettings } from "../../runtime/planning/settings.ts";
import { openSession, type Session } from "../../runtime/session/session.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";

test("kernels are forecast with the model that was measured, loaded once, whatever it was measured with before", async () => {
  const plugin = gemma2({ checkpoint: tinyCheckpoint }).create(fileHost);
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
    );
  const given = { placement: { embeddings: "device", keepDequantized: false } } as const;
  const plan = (from: MemoryAccount, bytes: number) =>
    planMemory(from, { mode: "auto", given, budget: { bytes, source: "given" }, keeps: true });
  const batch = { training: true, lengths: [256, 256] };
  const keys = async (from: MemoryAccount, settings: MemorySettings): Promise<string[]> =>
    [...(await (await from.forecast(settings)).of(batch)).keys()].toSorted();

  const roomy = account();
  const { settings, figures } = await plan(roomy, 2 ** 40);
  const kernels = await keys(roomy, settings);
  expect(kernels.length).toBeGreaterThan(15);
  expect(loads).toBe(1);
  expect(await keys(account(), settings)).toEqual(kernels);

  loads = 0;
  const tight = account();
  const less = await plan(tight, figures.peak - 1);
  expect(less.settings).not.toEqual(settings);
  const fresh = await keys(account(), less.settings);
  expect(await keys(tight, less.settings)).toEqual(fresh);
  expect(loads).toBe(2);
});

describe("batches of one size class dispatch the same kernels", () => {
  const shape = benchOptions.parse({ shape: "gemma2-9b", layers: 2, embeddings: "host" }, "bench");
  const sizes = [...Array(80).keys()].slice(1);
  for (let tokens = 128; tokens <= 8192; tokens += 64) sizes.push(tokens - 1, tokens, tokens + 1);

  test.each(["matrix", "f16", "f32"] as const)(
    "tier %s",
    async (tier) => {
      const work = {
        source: benchSource(shape),
        adapter: lora({
          rank: 64,
          dropout: 0.05,
          targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"],
        }),
        numLabels: 3,
        training: {
          optimizer: ({ gpu, parameters }: Session) => adamW8bit().create({ gpu, parameters }),
          steps: [[1024]],
          maxSamples: undefined,
        },
      };
      const device = { ...NVIDIA, info: { ...NVIDIA.info, tier } };
      const settings = {
        checkpointing: "none",
        tokenBudget: undefined,
        embeddings: "host",
        keepDequantized: false,
      } as const;
      const forecast = await new MemoryAccount(work, device).forecast(settings);
      const run = await MetaRun.open(work, device, settings);
      const keys = (kernels: Gpu["kernelSpecs"]): string[] => [...kernels.keys()].toSorted();
      const met = new Set<string>();
      for (const training of [true, false]) {
        for (const tokens of sizes.toReversed()) {
          const lengths = tokens > 900 ? [900, tokens - 900] : [tokens];
          if (training) await run.gradients(lengths, "none");
          else await run.logits(lengths);
          const wanted = keys(run.gpu.takeDispatched());
          // Another batch of as many tokens may have been the one that ran on the meta device.
          expect({ tokens, training, kernels: keys(await forecast.of({ training, lengths })) }).toEqual({
            tokens,
            training,
            kernels: wanted,
          });
          for (const key of wanted) met.add(key);
        }
      }
      const always = keys(await forecast.always()).filter((key) => !met.has(key));
      expect(always).toEqual(["adamw8bit", "grad-norm/fold", "grad-norm/partial"]);
    },
    120_000,
  );
});

describe.skipIf(tiers.length === 0)("kernels of a planned run", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const) {
    test(`${provider}: a step compiles nothing`, async () => {
      const source = gemma2({ checkpoint: tinyCheckpoint }).create(fileHost);
      const adapter = lora({ rank: 8, alpha: 16, dropout: 0.1, targetModules: ["q_proj", "gate_proj"] });
      const device = { gpu: provider, tier: "f32" } as const;
      const lengths = [40, 17, 3];
      const make = ({ gpu, parameters }: Session) => adamW8bit().create({ gpu, parameters });
      const training = { optimizer: make, steps: [lengths], maxSamples: undefined };
      const common = { source, adapter, numLabels: 3 };
      const work = { ...common, training };
      const planned = await openPlanned({ device, mode: "auto", given: {}, work });
      const { gpu } = planned;
      const kernels = new KernelWarmup(
        planned,
        (async function* () {
          yield [{ lengths, training: true }];
        })(),
      );
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
      const gradState = gpu.alloc([4], "f32", "gradState", "optimizer");
      const samples = lengths.map((tokens, index) => ({
        index,
        inputIds: new Uint32Array(tokens).fill(7),
        label: index,
      }));
      const settings = { limits: { maxTokens: 1000 }, checkpointing: "none", lossScale: 1, stepKey: 0 } as const;
      gpu.free(await accumulateGradients(session, samples, settings));
      gradNorm(gpu, session.parameters.slabs, gradState, { lossScale: 1, maxNorm: 1 });
      optimizer.step({ learningRate: 1e-4, update: 1, gradState });
      await gpu.idle();
      expect(compiled.slice(before)).toEqual([]);
      optimizer.destroy();
    }, 120_000);
  }
});
