/** Phi-3 against a Llama of the same weights, apart in what Phi-3 fuses, and against f64 where Llama has no like. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { llama, lora, phi3 } from "../../plugins/index.ts";
import { fileHost, openSafetensors } from "../../runtime/files/folder.ts";
import { type NamedValues, ModelBench, randomSamples } from "../../testing/model-bench.ts";
import { failure } from "../support/failure.ts";
import { expectClose, relativeL2 } from "../support/close.ts";
import { gpuOf, runSeed, tiers } from "../support/gpu.ts";
import { phi3Logits, readPlainNf4 } from "../support/phi3-f64.ts";
import { FUSED, LONGROPE, writePhi3, writePlainLlama } from "../support/phi3-checkpoint.ts";
import { temporaryFolder } from "../support/run.ts";

const adapter = lora({ rank: 4, alpha: 8, targetModules: "all-linear" });
const samples = randomSamples([5, 1, 40, 17], 400);
const parts = /^(base_model\.model\.model\.layers\.\d+\.)(.+)\.(lora_[AB])\.weight$/;

// Sums of other lengths round otherwise; f16 rounds what they feed.
const LIMITS = {
  f32: { logits: 1e-5, gradient: 1e-5 },
  f16: { logits: 6e-3, gradient: 2e-2 },
  matrix: { logits: 6e-3, gradient: 2e-2 },
} as const;

for (const tier of tiers) {
  const limits = LIMITS[tier];
  describe(`Phi-3, tier ${tier} (seed ${runSeed})`, () => {
    test("its logits and gradients are those of a Llama with the same weights and the same A for what is fused", async () => {
      await using folders = await temporaryFolder();
      const gpu = await gpuOf(tier);
      await writePlainLlama(folders.path);
      const sources = [llama({ checkpoint: folders.path }).create(fileHost)];
      await using fusedFolder = await temporaryFolder();
      await writePhi3(fusedFolder.path);
      sources.push(phi3({ checkpoint: fusedFolder.path }).create(fileHost));
      using fused = await ModelBench.open(gpu, sources[1]!, adapter);
      await fused.perturb();
      const values = await fused.parameters.readValues();
      using apart = await ModelBench.open(gpu, sources[0]!, adapter);
      for (const [name, value] of takeApart(values, await apart.parameters.readValues()))
        gpu.write(apart.parameters.get(name).value, value);

      const [got, want] = [await fused.logits(samples), await apart.logits(samples)];
      expectClose(got, want, { atol: limits.logits }, "logits");
      expect(Math.max(...want.map(Math.abs))).toBeGreaterThan(0.1);
      const [gradients, gradientsApart] = [await fused.gradients(samples), await apart.gradients(samples)];
      expect(gradients.size).toBe(3 * 4 * 2 + 1);
      for (const [name, gradient] of gradients) {
        const off = relativeL2(gradient, joined(name, gradientsApart));
        expect(off, name).toBeLessThan(limits.gradient);
      }
    }, 180_000);

    test("partial rotary embedding and longrope: the logits of f64", async () => {
      await using folder = await temporaryFolder();
      await writePhi3(folder.path, LONGROPE);
      using bench = await ModelBench.open(
        await gpuOf(tier),
        phi3({ checkpoint: folder.path }).create(fileHost),
        adapter,
      );
      await bench.perturb();
      await using file = await openSafetensors(join(folder.path, "model.safetensors"));
      const model = {
        layers: 3,
        heads: 8,
        kvHeads: 2,
        headDim: 16,
        intermediateSize: 320,
        eps: 1e-6,
        // 1 / (short factor * theta^(2j / 12)), of which sqrt(1 + ln 32 / ln 64) multiplies cosine and sine.
        inverseFrequencies: Float32Array.from(
          LONGROPE.rope_scaling.short_factor,
          (f, j) => 1 / (f * 500_000 ** (j / 6)),
        ),
        attentionFactor: Math.sqrt(1 + 5 / 6),
        window: 20,
        rank: 4,
        scale: 2,
        weights: await readPlainNf4(file),
        values: await bench.parameters.readValues(),
      };
      const want = samples.flatMap(({ inputIds }) => [...phi3Logits(model, inputIds)]);
      // What is rounded on the way is of the size of the largest logits.
      const largest = Math.max(...want.map(Math.abs));
      expectClose(await bench.logits(samples), want, { atol: limits.logits * largest });
    }, 180_000);

    test("a text beyond the short frequencies is refused, with what to set", async () => {
      await using folder = await temporaryFolder();
      await writePhi3(folder.path, LONGROPE);
      using bench = await ModelBench.open(
        await gpuOf(tier),
        phi3({ checkpoint: folder.path }).create(fileHost),
        adapter,
      );
      const refused = await failure(bench.logits(randomSamples([65], 400)));
      expect(refused).toContain(
        "a row has 65 tokens, and the short frequencies of this model's longrope scaling hold up to 64",
      );
    }, 180_000);
  });
}

/** Each part's A is the fused one's, its B the rows of it that are the part's. */
function takeApart(values: NamedValues, like: NamedValues): NamedValues {
  const apart: NamedValues = new Map();
  for (const [name, value] of values) {
    const [, layer, linear, matrix] = parts.exec(name) ?? [];
    if (linear === undefined) apart.set(name, value);
    let from = 0;
    for (const part of FUSED[linear ?? ""] ?? []) {
      const own = `${layer}${part}.${matrix}.weight`;
      const size = like.get(own)!.length;
      apart.set(own, matrix === "lora_A" ? value : value.slice(from, from + size));
      from += size;
    }
  }
  return apart;
}

/** The fused parameter's gradient by those apart: A's is the sum of the parts', B's all of them, one after the other. */
function joined(name: string, gradients: NamedValues): Float64Array {
  const [, layer, linear, matrix] = parts.exec(name) ?? [];
  if (linear === undefined) return Float64Array.from(gradients.get(name)!);
  const own = FUSED[linear]!.map((part) => gradients.get(`${layer}${part}.${matrix}.weight`)!);
  if (matrix === "lora_B") return Float64Array.from(own.flatMap((values) => [...values]));
  return Float64Array.from(own[0]!, (_, i) => own.reduce((sum, values) => sum + values[i]!, 0));
}
