import { describe, expect, test } from "bun:test";
import { openSafetensors } from "../../core/formats/safetensors.ts";
import {
  type Adapter,
  type AdapterPlugin,
  defineAdapter,
  defineOptions,
  type Op,
  readFloats,
} from "../../core/index.ts";
import { dora, ia3, lora, vera } from "../../plugins/index.ts";
import { adapterContract, type AdapterContractOptions } from "../../testing/index.ts";
import { gpuOf, runSeed, tiers } from "../support/gpu.ts";

/** Elements on the toy: counted by hand from the linears' sides (64, 32, 128). */
const shipped: readonly (readonly [string, AdapterPlugin, AdapterContractOptions])[] = [
  // Per layer: q 8 (64 + 64), v 8 (64 + 32); two layers.
  ["lora", lora(), { trainable: 3584 }],
  [
    "lora with dropout on all linears",
    lora({ rank: 3, alpha: 6, dropout: 0.3, targetModules: "all-linear" }),
    { trainable: 2 * 3 * (128 + 96 + 96 + 128 + 192 + 192 + 192) },
  ],
  ["lora from random B", lora({ initLoraWeights: false, layersToTransform: [1] }), { identityAtStart: false }],
  ["dora", dora({ rank: 4, dropout: 0.2, targetModules: "all-linear" }), { exactGradients: false }],
  // Per layer: k 32, v 32, down's input 128.
  ["ia3", ia3(), { trainable: 2 * (32 + 32 + 128) }],
  // Outputs and rank of each linear: q 64, k 32, v 32, o 64, gate 128, up 128, down 64.
  [
    "vera on linears of six shapes",
    vera({ rank: 12, dropout: 0.2, targetModules: "all-linear" }),
    { trainable: 2 * (512 + 7 * 12) },
  ],
  ["vera without its projections", vera({ rank: 5, saveProjection: false, projectionPrngKey: 3 }), {}],
];

for (const tier of tiers) {
  for (const [title, plugin, options] of shipped) {
    describe(`${title}, tier ${tier} (seed ${runSeed})`, () => {
      for (const { name, run } of adapterContract(gpuOf(tier), plugin, { ...options, seed: runSeed })) {
        test(name, run, 300_000);
      }
    });
  }
}

const tier = tiers[0];

describe.skipIf(tier === undefined)("broken adapters are caught", () => {
  /** LoRA with `change` laid over it. */
  const broken = (change: (adapter: Adapter) => Partial<Adapter>): AdapterPlugin =>
    defineAdapter({
      name: "broken",
      options: defineOptions({}),
      reads: (config) => lora.reads(config),
      optionsFrom: () => ({}),
      async create(_options, context) {
        const adapter = await lora({ rank: 2, targetModules: ["v_proj"] }).create(context);
        return { ...adapter, ...change(adapter) };
      },
    })();

  /** Names of the checks that fail, with what they say. */
  const failing = async (
    plugin: AdapterPlugin,
    options: AdapterContractOptions = {},
  ): Promise<ReadonlyMap<string, string>> => {
    const failed = new Map<string, string>();
    for (const { name, run } of adapterContract(gpuOf(tier!), plugin, options)) {
      await run().catch((error: unknown) => failed.set(name.replace("broken: ", ""), String(error)));
    }
    return failed;
  };

  test("a sound one passes", async () => expect([...(await failing(broken(() => ({}))))]).toEqual([]));

  test("one that changes the model at its start, and trains more than it says", async () => {
    const random = broken(({ parameters }) => ({
      parameters: parameters.map((p) => ({ ...p, initial: () => p.initial().fill(0.1) })),
    }));
    const failed = await failing(random, { trainable: 300 });
    expect([...failed.keys()]).toEqual([
      "a fresh adapter changes nothing",
      "parameters have one name each and as many elements as declared",
    ]);
    expect(failed.get("a fresh adapter changes nothing")).toContain("against the bare model's: relative error");
    expect(failed.get("parameters have one name each and as many elements as declared")).toBe(
      "ContractError: 384 elements train, expected 300", // two layers, 2 (64 + 32)
    );
  });

  test("a parameter that nothing uses", async () => {
    const failed = await failing(broken(() => ({ adapt: (spec, weight) => ({ spec, weight }) })));
    expect(failed.get("a gradient reaches every parameter")).toBe(
      "ContractError: no gradient reaches base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight",
    );
  });

  test("a gradient of twice its size", async () => {
    const plugin = broken((adapter) => ({
      adapt(spec, weight, ...rest) {
        const { branch } = adapter.adapt(spec, weight, ...rest);
        if (branch === undefined) return { spec, weight };
        return {
          spec,
          weight,
          forward(tape, x, base) {
            const y = base(x);
            const wrong: Op<null> = {
              name: "wrong",
              trains: () => true,
              forward: (t, [input]) => {
                const output = t.like(input!);
                t.gpu.copy(input!, output);
                return { outputs: [output] };
              },
              backward(t, { dOutputs, needs }) {
                t.gpu.write(branch.a.grad, new Float32Array(branch.a.size).fill(1));
                t.gpu.write(branch.b.grad, new Float32Array(branch.b.size).fill(1));
                return [needs[0] === true ? dOutputs[0] : undefined];
              },
            };
            return tape.run(wrong, [y], null)[0]!;
          },
        };
      },
    }));
    const failed = await failing(plugin);
    expect(failed.get("gradients agree with differences of the loss")).toContain("differences of the loss give 0 ");
  });

  test("a merge that forgets the scale, and none at all", async () => {
    const check = "merged linears, where it merges, compute what it computes";
    const forgetful = broken((adapter) => ({
      mergeWeight(spec, weight, values) {
        const before = weight.slice();
        adapter.mergeWeight!(spec, weight, values);
        weight.forEach((value, i) => (weight[i] = before[i]! + (value - before[i]!) / 2));
      },
    }));
    expect((await failing(forgetful)).get(check)).toContain(
      "logits of the merged linears, against those of the adapter",
    );
    expect([...(await failing(broken(() => ({ mergeWeight: undefined })))).keys()]).toEqual([]);
  });

  test("values lost and shapes not looked at", async () => {
    const lossy = broken((adapter) => ({
      load: async (from) => new Map([...(await adapter.load(from))].map(([k, v]) => [k, v.map(Math.round)])),
    }));
    const failed = await failing(lossy);
    expect([...failed.keys()]).toEqual([
      "save and load give the same values and the same files",
      "its config file finds it again, with the same logits",
    ]);
    const blind = broken((adapter) => ({
      load: async (from) => {
        await using file = await openSafetensors(from, "adapter_model.safetensors");
        const values = new Map<string, Float32Array<ArrayBuffer>>();
        for (const { name } of adapter.parameters) values.set(name, await readFloats(file, name));
        return values;
      },
    }));
    expect((await failing(blind)).get("a file that does not fit is refused by name")).toStartWith(
      "ContractError: load of a file whose base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight is [3,64], not [2,64]: ",
    );
  });
});
