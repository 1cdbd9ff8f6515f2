/** The account of memory against what a run on the device allocates, within 2 %. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { bench } from "../../index.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { tiers } from "../support/gpu.ts";
import { temporaryFolder, testProvider } from "../support/run.ts";

const CASES = [
  [[64, 64], {}],
  [[64, 64], { gradientCheckpointing: "block" }],
  [[200, 17, 90, 33], { gradientCheckpointing: 2, tokenBudget: 256 }],
  [[200, 17, 90, 33], { gradientCheckpointing: "none", embeddings: "host", keepDequantized: true }],
  [[1, 300], { gradientCheckpointing: 3, embeddings: "host" }],
] as const;

for (const tier of tiers) {
  describe(`bytes planned and allocated, tier ${tier}`, () => {
    for (const [lengths, settings] of CASES) {
      test(`${lengths.join(" + ")} tokens, ${JSON.stringify(settings)}`, async () => {
        await using folder = await temporaryFolder();
        const file = join(folder.path, "lengths.json");
        await writeFileAtomic(file, JSON.stringify(lengths));
        const run = {
          lengths: file,
          batch: lengths.length,
          rank: 16,
          steps: 1,
          warmup: 1,
          memory: "auto",
          ...settings,
        };
        const result = await bench({
          ...benchOptions.parse(run, "bench"),
          device: { gpu: testProvider, tier, robustness: true, memoryBudget: "2GiB" },
        });
        const { plan, peakBytes } = result!;
        expect(Number.isFinite(result!.lastLoss)).toBe(true);
        expect(peakBytes).toBeGreaterThan(2 ** 20);
        expect(Math.abs(plan!.peakBytes / peakBytes - 1)).toBeLessThan(0.02);
      }, 120_000);
    }
  });
}
