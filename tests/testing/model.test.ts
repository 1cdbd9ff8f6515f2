import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineModel, defineOptions, type Model, type ModelSpec, type ModelPlugin } from "../../core/index.ts";
import { gemma2, gemma3, llama, phi3, qwen3 } from "../../plugins/index.ts";
import { modelContract, type ModelContractOptions, toyModel } from "../../testing/index.ts";
import { gpuOf, runSeed, tiers } from "../support/gpu.ts";
import { LONGROPE, writePhi3 } from "../support/phi3-checkpoint.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";

/** The tiny Llama's weights as a Phi-3 with partial rotary embedding and longrope. */
const temporary = await mkdtemp(join(tmpdir(), "qlora-test-"));
const phi3Folder = join(temporary, "tiny-phi3-nf4");
await mkdir(phi3Folder);
await writePhi3(phi3Folder, LONGROPE);
afterAll(() => rm(temporary, { recursive: true }));

/** Beyond the tiny Gemma-2's sliding window of 64. */
const lengths = [70, 1, 17, 3];
const shipped: readonly (readonly [ModelPlugin, ModelContractOptions])[] = [
  [gemma2({ checkpoint: tinyCheckpoint }), { lengths }],
  ...["llama", "qwen2"].map((name) => [llama({ checkpoint: goldenPath("plugins", `tiny-${name}-nf4`) }), {}] as const),
  [qwen3({ checkpoint: goldenPath("turn2", "tiny-qwen3-nf4") }), {}],
  [phi3({ checkpoint: phi3Folder }), { lengths: [25, 1, 17, 3] }],
  // Beyond its window of 16.
  [gemma3({ checkpoint: goldenPath("turn2", "tiny-gemma3-nf4") }), { lengths: [20, 1, 17, 3] }],
];

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

describe("sums that cancel are held against what is summed", () => {
  /**
   * Seed 247820: the logits of 17 tokens are a tenth of the others'. 314448: so is a sum of samples' gradients, of theirs.
   * 182803: so is the gradient of a query's linear, of the value's.
   */
  const cases = [
    [shipped[0], 247820, "packing and order do not matter to logits"],
    [shipped[1], 314448, "cutting into batches does not matter to gradients"],
    [shipped[0], 182803, "cutting into batches does not matter to gradients"],
  ] as const;
  for (const [model, seed, check] of cases) {
    if (model === undefined) continue;
    const [plugin, options] = model;
    for (const each of tiers)
      test(`${plugin.name}, tier ${each}: ${check} (seed ${seed})`, async () => {
        const checks = modelContract(gpuOf(each), plugin, { ...options, seed });
        await checks.find(({ name }) => name.endsWith(check))!.run();
      });
  }
});

const tier = tiers[0];

describe.skipIf(tier === undefined)("broken models are caught", () => {
  /** The toy with `outline` and `model` laid over it. */
  const broken = (
    outline: (outline: ModelSpec) => Partial<ModelSpec> = () => ({}),
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

  /** The toy, with `[start, end)` of each token's sample as `segments` tells them for a batch of so many tokens. */
  const leaky = (segments: (tokens: number) => readonly number[] | undefined): ModelPlugin =>
    broken(undefined, (model) => ({
      forward: (tape, batch, options) => {
        const told = segments(batch.tokens);
        if (told !== undefined) tape.gpu.write(batch.segments, Uint32Array.from(told));
        return model.forward(tape, { ...batch, maxSeqlen: batch.tokens }, options);
      },
    }));
  const tokens = (count: number, start: number, end: number): readonly number[] =>
    Array.from({ length: count }, () => [start, end]).flat();
  /** Samples of 5, 1, 17 and 3 tokens, the second of which also sees the last token of the first. */
  const oneSeen = [...tokens(4, 0, 5), 0, 6, 4, 6, ...tokens(17, 6, 23), ...tokens(3, 23, 26)];

  test.each([
    ["all of all others", leaky((all) => tokens(all, 0, all))],
    ["one token of another", leaky((all) => (all === 26 ? oneSeen : undefined))],
  ])("samples that see each other: %s", async (_, plugin) => {
    expect(Object.keys(await failing(plugin))).toEqual([
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
