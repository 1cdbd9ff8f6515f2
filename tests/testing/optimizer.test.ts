import { describe, expect, test } from "bun:test";
import {
  defineOptimizer,
  defineOptions,
  type Optimizer,
  type OptimizerContext,
  type OptimizerPlugin,
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
