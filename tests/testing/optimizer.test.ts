import { describe, expect, test } from "bun:test";
import {
  accumulate,
  defineOptimizer,
  defineOptions,
  type Optimizer,
  type OptimizerContext,
  type OptimizerPlugin,
  ParameterSet,
} from "../../core/index.ts";
import { adafactor, adamW, adamW8bit, ema, lion8bit, muon, scheduleFreeAdamW, sgd } from "../../plugins/index.ts";
import { optimizerContract, type OptimizerContractOptions } from "../../testing/index.ts";
import { gpuOf, runSeed, tiers } from "../support/gpu.ts";

const shipped: readonly (readonly [OptimizerPlugin, OptimizerContractOptions])[] = [
  [adafactor(), {}],
  [adamW(), {}],
  [adamW8bit(), {}],
  [lion8bit(), {}],
  [muon({ adjustLrFn: "match_rms_adamw" }), { learningRate: 0.05 }],
  [sgd(), {}],
  [sgd({ momentum: 0.5, dampening: 0.5, weightDecay: 0.01 }), {}],
  [scheduleFreeAdamW({ weightDecay: 0.01 }), {}],
  [ema(adamW(), { decay: 0.9 }), {}],
];

for (const tier of tiers) {
  for (const [plugin, options] of shipped) {
    describe(`${plugin.name} ${JSON.stringify(plugin.input)}, tier ${tier} (seed ${runSeed})`, () => {
      for (const { name, run } of optimizerContract(gpuOf(tier), plugin, { ...options, seed: runSeed })) {
        test(name, run, 30_000);
      }
    });
  }
}

const tier = tiers[0];

describe.skipIf(tier === undefined)("broken optimizers are caught", () => {
  /** SGD with `change` laid over it. */
  const broken = (change: (optimizer: Optimizer, context: OptimizerContext) => Partial<Optimizer>): OptimizerPlugin =>
    defineOptimizer({
      name: "broken",
      options: defineOptions({}),
      create(_options, context) {
        const optimizer = sgd().create(context);
        return { ...optimizer, ...change(optimizer, context) };
      },
    })();

  const failing = async (plugin: OptimizerPlugin): Promise<string[]> => {
    const failed: string[] = [];
    for (const { name, run } of optimizerContract(gpuOf(tier!), plugin, { shapes: [[3, 5], [300]], steps: 20 })) {
      const ok = await run().then(
        () => true,
        () => false,
      );
      if (!ok) failed.push(name.replace("broken: ", ""));
    }
    return failed;
  };

  test("a sound one passes", async () => expect(await failing(broken(() => ({})))).toEqual([]));

  test("a state that forgets", async () => {
    const plugin = broken((optimizer) => ({ save: async () => (await optimizer.save(), new Map()), load: () => {} }));
    expect(await failing(plugin)).toContain("saved state goes on bit for bit");
    expect(await failing(plugin)).toContain("a state that does not fit is refused by name and changes nothing");
  });

  test("a step that does not look at the gradState", async () => {
    const plugin = broken((optimizer, { gpu }) => {
      const always = gpu.upload(Float32Array.of(1, 0, 0, 0), [4], "f32", "always", "optimizer");
      return {
        step: (step) => optimizer.step({ ...step, gradState: always }),
        destroy() {
          gpu.free(always);
          optimizer.destroy();
        },
      };
    });
    expect(await failing(plugin)).toEqual([
      "a step marked to be skipped changes nothing",
      "the gradState's factor multiplies gradients",
    ]);
  });

  test("steps uphill, of a size of its own", async () => {
    expect(await failing(broken((o) => ({ step: (s) => o.step({ ...s, learningRate: -0.01 }) })))).toEqual([
      "lowers a quadratic",
      "learning rate 0 leaves parameters alone",
    ]);
  });

  test("a slab left out, told by its number", async () => {
    const plugin = broken((_, { gpu, parameters }) => {
      const first = new ParameterSet(gpu, [], parameters.slabs.slice(0, 1));
      return sgd().create({ gpu, parameters: first });
    });
    const checks = optimizerContract(gpuOf(tier!), plugin, { shapes: [[3, 5], [300]], steps: 20 });
    const check = checks.find(({ name }) => name.endsWith("every slab is updated"))!;
    expect(await check.run().catch(String)).toBe(
      "ContractError: p1.300 stays as it was after an update: step() leaves out slab 1 of 2 (go through parameters.slabs)",
    );
  });

  test("first values that are neither saved nor loaded, as Prodigy's p0", async () => {
    const plugin = broken((optimizer, { gpu, parameters }) => {
      const p0 = parameters.slabs.map(({ size, value }) => {
        const copy = gpu.alloc([size], "f32", "p0", "optimizer");
        gpu.copy(value, copy);
        return copy;
      });
      return {
        step(step) {
          optimizer.step(step);
          // Drawn to where it began.
          for (const [i, { value }] of parameters.slabs.entries()) accumulate(gpu, value, p0[i]!);
        },
        destroy() {
          for (const copy of p0) gpu.free(copy);
          optimizer.destroy();
        },
      };
    });
    const checks = optimizerContract(gpuOf(tier!), plugin, { shapes: [[3, 5], [300]] });
    const check = checks.find(({ name }) => name.endsWith("saved state goes on bit for bit"))!;
    expect(await check.run().catch(String)).toContain(
      "Likely: state that create() makes, of the first values or of zeros, is neither in save() nor put back by load()",
    );
  });

  test("averages computed back instead of kept aside", async () => {
    const plugin = broken((_, { gpu, parameters }) => ({
      evaluating(on: boolean) {
        for (const { value, size } of parameters.slabs) {
          const shift = gpu.upload(new Float32Array(size).fill(on ? 0.1 : -0.1), [size], "f32", "shift");
          accumulate(gpu, value, shift);
          gpu.free(shift);
        }
      },
    }));
    expect(await failing(plugin)).toEqual(["values for evaluation come and go without a trace"]);
  });

  test("memory kept, padding touched", async () => {
    expect(await failing(broken(() => ({ destroy() {} })))).toEqual(["destroy gives all memory back"]);
    const plugin = broken((optimizer, { gpu, parameters }) => ({
      step(step) {
        optimizer.step(step);
        for (const { value } of parameters.slabs) gpu.write(value, Float32Array.of(1), 20 * 4);
      },
    }));
    expect(await failing(plugin)).toContain("what lies between parameters stays zero");
  });
});
