/** A run of mixed lengths compiles every kernel ahead of the step that needs it. */
import { describe, expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type Tensor } from "../../core/index.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import { trainer } from "../../index.ts";
import { ia3 } from "../../plugins/index.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** Doubles and halves what it is given: a kernel of its own for every 64 tokens, as products on subgroup matrices have theirs. */
function byTokens(gpu: Gpu, x: Tensor, training: boolean): void {
  const key = `by-tokens/${training}/${Math.ceil(x.shape[0]! / 64)}`;
  const code = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(1) fn main() { if (params.size > 0u) { x[0] = x[0] * 2.0 / 2.0; } }`;
  const kernel = gpu.kernel(key, () => ({ code, bindings: ["write"], uniforms: { size: "u32" } }));
  gpu.dispatch(kernel, [x], { size: x.shape[0]! }, gridFor(1));
}

/** (IA)^3 whose linears also run that kernel. */
function sizedAdapter(): AdapterPlugin {
  const plain = ia3({ targetModules: ["k_proj"], feedforwardModules: [] });
  return {
    ...plain,
    create: async (context) => {
      const adapter = await plain.create(context);
      return {
        ...adapter,
        adapt(spec, weight, ...rest) {
          const adapted = adapter.adapt(spec, weight, ...rest);
          const { forward } = adapted;
          if (forward === undefined) return adapted;
          return {
            ...adapted,
            forward(tape, x, base, batch, options) {
              byTokens(tape.gpu, x, options.training);
              return forward(tape, x, base, batch, options);
            },
          };
        },
      };
    },
  };
}

/** Every third row is held out: micro-batches have 128, 32 and (the last, short) 40 tokens, batches of evaluation 110 and 9. */
const LENGTHS = [60, 64, 64, 9, 12, 20, 50, 40];

/** Rows of made-up ids with these token counts. */
async function rowsOf(file: string, lengths: readonly number[]): Promise<string> {
  const rows = lengths.map((length, i) => ({ input_ids: Array.from({ length }, (_, at) => 5 + at), label: i % 3 }));
  await writeFileAtomic(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return file;
}

/** Keys of kernels that somebody who needed one had to compile himself, while `work` ran; and of all that were asked for. */
async function foreground(work: () => Promise<unknown>): Promise<{ compiled: string[]; used: Set<string> }> {
  const compiled: string[] = [];
  const used = new Set<string>();
  // oxlint-disable-next-line typescript/unbound-method -- called with its `this`
  const original = Gpu.prototype.kernel;
  using _ = spyOn(Gpu.prototype, "kernel").mockImplementation(function (this: Gpu, key, make, ...rest) {
    if (!this.isMeta) used.add(key);
    // Its text is written on every use, to be compared; it is compiled where there is none of this key.
    if (!this.isMeta && !this.kernelSpecs.has(key)) compiled.push(key);
    return original.call(this, key, make, ...rest);
  });
  await work();
  return { compiled, used };
}

describe.skipIf(tiers.length === 0)("a run of mixed lengths with evaluation", () => {
  for (const gpu of ["webgpu", "bun-webgpu"] as const) {
    test(`${gpu}: no step compiles a kernel, and no kernel is compiled that no step uses`, async () => {
      await using folder = await temporaryFolder();
      const config = await smallRun(folder.path, {
        adapter: sizedAdapter(),
        data: { trainFiles: [await rowsOf(join(folder.path, "rows.jsonl"), LENGTHS)], nSplits: 3 },
        training: {
          perDeviceTrainBatchSize: 2,
          gradientAccumulationSteps: 1,
          maxSteps: -1,
          numTrainEpochs: 1,
          evalStrategy: "steps",
          evalSteps: 2,
          shuffle: false,
          classWeights: [1, 1, 2], // a loss with a kernel of its own
          perDeviceEvalBatchSize: 2,
        },
        device: { gpu, tier: "f32" },
      });
      let made: Gpu["kernelSpecs"] = new Map();
      const { compiled, used } = await foreground(async () => {
        for await (const { session } of trainer(config)) made = session.gpu.kernelSpecs;
      });
      const sized = [...used].filter((key) => key.startsWith("by-tokens")).toSorted();
      expect(sized).toEqual(["false/1", "false/2", "true/1", "true/2"].map((key) => `by-tokens/${key}`));
      expect(used).toContain("cross-entropy/forward/soft/32");
      expect(compiled).toEqual([]);
      expect([...made.keys()].filter((key) => !used.has(key))).toEqual([]);
    }, 240_000);
  }
});
