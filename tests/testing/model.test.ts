import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { defineModel, defineOptions, type Model, type ModelOutline, type ModelPlugin } from "../../index.ts";
import { gemma2, llama } from "../../plugins/index.ts";
import { modelContract, type ModelContractOptions, toyModel } from "../../testing/index.ts";
import { gpuOf, runSeed, tiers } from "../support/gpu.ts";
import { referenceDir, tinyCheckpoint } from "../support/reference.ts";

const plugins = referenceDir();
/** Beyond the tiny Gemma-2's sliding window of 64. */
const lengths = [70, 1, 17, 3];
const shipped: readonly (readonly [ModelPlugin, ModelContractOptions])[] = [
  [gemma2({ checkpoint: tinyCheckpoint }), { lengths }],
  ...(plugins === undefined
    ? []
    : ["llama", "qwen2"].map(
        (name) => [llama({ checkpoint: join(plugins, "plugins", `tiny-${name}-nf4`) }), {}] as const,
      )),
];
if (plugins === undefined) test.skip("the model llama needs the golden data", () => {});

for (const tier of tiers) {
  for (const [plugin, options] of shipped) {
    const { checkpoint } = plugin.options as { readonly checkpoint: string };
    describe(`${checkpoint.split("/").at(-1)}, tier ${tier} (seed ${runSeed})`, () => {
      for (const { name, run } of modelContract(gpuOf(tier), plugin, { ...options, seed: runSeed })) {
        test(name, run, 300_000);
      }
    });
  }
}

const tier = tiers[0];

describe.skipIf(tier === undefined)("broken models are caught", () => {
  /** The toy with `outline` and `model` laid over it. */
  const broken = (
    outline: (outline: ModelOutline) => Partial<ModelOutline> = () => ({}),
    model: (model: Model) => Partial<Model> = () => ({}),
  ): ModelPlugin =>
    defineModel({
      name: "broken",
      options: defineOptions({}),
      create() {
        const toy = toyModel({ layers: 1 });
        return {
          checkpoint: "toy",
          async outline(numLabels) {
            const sound = await toy.outline(numLabels);
            return { ...sound, ...outline(sound) };
          },
          async load(context) {
            const sound = await toy.load(context);
            return { ...sound, ...model(sound) };
          },
        };
      },
    })();

  /** Names of the checks that fail, with what they say. */
  const failing = async (plugin: ModelPlugin): Promise<Readonly<Record<string, string>>> => {
    const failed: Record<string, string> = {};
    for (const { name, run } of modelContract(gpuOf(tier!), plugin, { numLabels: [2, 3] })) {
      await run().catch((error: unknown) => (failed[name.replace("broken: ", "")] = String(error)));
    }
    return failed;
  };

  test("a sound one passes", async () => expect(await failing(broken())).toEqual({}));

  test("an outline that tells something else than the model", async () => {
    const swapped = broken(({ linears }) => ({
      linears: linears.map((l) => (l.name.endsWith("k_proj") ? { ...l, outFeatures: 64 } : l)),
    }));
    const failed = await failing(swapped);
    expect(failed["the outline names every linear and parameter once"]).toBe(
      "ContractError: baseParameters of the outline: model.layers.0.self_attn.k_proj.weight is [32,64], its linear [64,64]",
    );
    expect(failed["head and weights are as the outline says"]).toBe(
      "ContractError: weight(model.layers.0.self_attn.k_proj) is [32,64], the outline says [64,64]",
    );
  });

  test("samples that see each other", async () => {
    const leaky = broken(undefined, (model) => ({
      forward: (tape, batch, options) => {
        const segments = new Uint32Array(2 * batch.tokens).map((_, i) => (i % 2 === 0 ? 0 : batch.tokens));
        tape.gpu.write(batch.segments, segments);
        return model.forward(tape, { ...batch, longest: batch.tokens }, options);
      },
    }));
    expect(Object.keys(await failing(leaky))).toEqual([
      "packing and order do not matter to logits",
      "cutting into batches does not matter to gradients",
    ]);
  });

  test("a linear that ignores its adapter, hidden states not shown", async () => {
    const deaf = broken(undefined, (model) => ({
      bind: (linears, parameters) =>
        model.bind(
          new Map(
            [...linears].map(([name, { spec, weight, ...adapted }]) => [
              name,
              name.endsWith("up_proj") ? { spec, weight } : { spec, weight, ...adapted },
            ]),
          ),
          parameters,
        ),
      forward: (tape, batch, options) => model.forward(tape, batch, { ...options, onHidden: undefined }),
    }));
    const failed = await failing(deaf);
    expect(failed["a gradient reaches an adapter on every linear, and the head"]).toBe(
      "ContractError: no gradient reaches test.model.layers.0.mlp.up_proj.A",
    );
    expect(failed["an adapter's own forward replaces each linear once"]).toBe(
      "ContractError: the adapter's forward of model.layers.0.mlp.up_proj is called 0 times in one pass, expected once",
    );
    expect(failed["onHidden sees the embedding and every block"]).toStartWith(
      "ContractError: onHidden is called 0 times, expected 2",
    );
  });

  test("memory kept", async () => {
    expect(Object.keys(await failing(broken(undefined, () => ({ destroy() {} }))))).toEqual(["all memory comes back"]);
  });
});
