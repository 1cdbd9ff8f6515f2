/** The last block runs for one token a sample; whoever looks at hidden states gets all of it. Both give the same numbers. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ForwardOptions } from "../../core/compute/blocks.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { ModelLoader } from "../../core/plugin/model.ts";
import { dora, gemma2, gemma3, ia3, llama, lora, phi3, qwen3 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { norm as l2 } from "../../testing/finite-differences.ts";
import { ModelBench, randomSamples } from "../../testing/model-bench.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { writePhi3 } from "../support/phi3-checkpoint.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { withWholeBlocks } from "../support/whole-blocks.ts";

function expectSame(got: ArrayLike<number>, want: ArrayLike<number>, limit: number, what: string): void {
  const difference = l2(Float64Array.from(want, (v, i) => v - got[i]!));
  const size = l2(want);
  if (!(got.length === want.length && difference <= limit * size))
    throw new Error(`${what}: differ by ${difference / size} of their size`);
}

const temporary = await mkdtemp(join(tmpdir(), "qlora-test-"));
const phi3Folder = join(temporary, "tiny-phi3-nf4");
await mkdir(phi3Folder);
await writePhi3(phi3Folder);
afterAll(() => rm(temporary, { recursive: true }));

const sources: [name: string, source: () => ModelLoader][] = [
  ["gemma2", () => gemma2({ checkpoint: tinyCheckpoint }).create(fileHost)],
  ...(["llama", "qwen2"] as const).map((name): (typeof sources)[number] => [
    name,
    () => llama({ checkpoint: goldenPath("plugins", `tiny-${name}-nf4`) }).create(fileHost),
  ]),
  ["gemma3", () => gemma3({ checkpoint: goldenPath("turn2", "tiny-gemma3-nf4") }).create(fileHost)],
  ["phi3", () => phi3({ checkpoint: phi3Folder }).create(fileHost)],
  ["qwen3", () => qwen3({ checkpoint: goldenPath("turn2", "tiny-qwen3-nf4") }).create(fileHost)],
];
const all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const adapters: [name: string, adapter: AdapterPlugin][] = [
  ["lora on all linears", lora({ rank: 4, dropout: 0.2, targetModules: "all-linear" })],
  ["lora on q and down", lora({ rank: 4, dropout: 0.2, targetModules: ["q_proj", "down_proj"] })],
  ["lora on layer 0 alone", lora({ rank: 4, targetModules: all, layersToTransform: [0] })],
  ["ia3", ia3()],
  ["dora", dora({ rank: 4, dropout: 0.2, targetModules: ["k_proj", "o_proj"] })],
];

// Sums of other lengths round otherwise; f16 rounds what they feed.
const LIMITS = { f32: 1e-6, f16: 4e-3, matrix: 4e-3 } as const;

for (const tier of tiers) {
  describe.each(sources)(`the last block, tier ${tier}: %s`, (model, source) => {
    test.each(adapters)(
      "%s",
      async (name, adapter) => {
        // Other tiers' kernels are tested by themselves; each combination compiles for seconds.
        if (tier !== "f32" && (model !== "gemma2" || name !== adapters[0]![0])) return;
        // Gemma-3's block is Gemma-2's but for a norm of queries and keys, and there are seven; Phi-3's linears have other names.
        if (["gemma3", "phi3"].includes(model) && name !== adapters[0]![0]) return;
        const gpu = await gpuOf(tier);
        const { vocabSize } = await source().outline(3);
        const samples = randomSamples([5, 1, 40, 3], vocabSize);
        const run = async (whole: boolean, checkpointing: ForwardOptions["checkpointing"] = "none") => {
          using bench = await ModelBench.open(gpu, whole ? withWholeBlocks(source()) : source(), adapter);
          await bench.perturb();
          return {
            logits: await bench.logits(samples),
            loss: await bench.loss(samples, 3),
            gradients: await bench.gradients(samples, { checkpointing, stepKey: 3 }),
          };
        };
        const [got, want] = [await run(false), await run(true)];
        const limit = LIMITS[tier];
        expectSame(got.logits, want.logits, limit, "logits");
        expectSame([got.loss], [want.loss], limit, "loss");
        expect([...got.gradients.keys()]).toEqual([...want.gradients.keys()]);
        const joined = (all: typeof got.gradients): number[] => [...all.values()].flatMap((values) => [...values]);
        expectSame(joined(got.gradients), joined(want.gradients), limit, "all gradients");
        // Gradients of keys are small differences of larger sums, and carry those sums' rounding.
        for (const [key, gradient] of want.gradients) expectSame(got.gradients.get(key)!, gradient, 3 * limit, key);
        const replayed = await run(false, "block");
        for (const [key, gradient] of got.gradients) expect(replayed.gradients.get(key)!).toEqual(gradient);
      },
      180_000,
    );
  });
}
