/** The gradient is the mean over the optimizer batch's samples, however it is packed and cut. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpointing } from "../../core/compute/blocks.ts";
import type { PackLimits, Sample } from "../../runtime/data/pack.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { relativeL2 } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { adapterSession, samplesFrom } from "../support/session.ts";

/**
 * f32: sums of other orders. f16: where such a sum lies between two f16 numbers it rounds the other way, so two cuts may
 * differ as much as the tier differs from f32, which is 4e-3 on these samples (parity-tiny).
 */
const LIMITS = { f32: 1e-5, f16: 4e-3, matrix: 4e-3 } as const;

for (const tier of tiers) {
  describe(`packing, tier ${tier}`, () => {
    test("cuts, orders and checkpointing give the same gradients, dropout on", async () => {
      const folder = goldenPath("parity-tiny");
      const { samples: rows } = JSON.parse(await readFile(join(folder, "reference.json"), "utf8")) as {
        samples: { input_ids: number[]; label: number }[];
      };
      // Lengths from 1 to beyond the window of 64.
      const lengths = [128, 1, 17, 65, 64, 2];
      const samples: Sample[] = samplesFrom(rows.slice(0, 6)).map((s, i) => ({
        ...s,
        inputIds: s.inputIds.slice(0, lengths[i]),
      }));
      using session = await adapterSession(tier, join(folder, "adapter"), 0.3);
      const lossScale = tier === "f32" ? 1 : 4096; // f16 gradients below 6e-8 would be zero
      const run = async (
        list: readonly Sample[],
        limits: PackLimits,
        checkpointing: Checkpointing = "none",
      ): Promise<Map<string, Float32Array>> => {
        session.parameters.zeroGrad();
        session.gpu.free(await accumulateGradients(session, list, { limits, checkpointing, lossScale, stepKey: 5 }));
        return session.parameters.readGradients();
      };
      const whole = await run(samples, { maxTokens: 1000 });
      const same = (other: Map<string, Float32Array>, limit: number): void => {
        for (const [name, gradient] of whole) {
          const error =
            limit === 0 && gradient.every((v, i) => v === other.get(name)![i])
              ? 0
              : relativeL2(other.get(name)!, gradient);
          if (!(error <= limit)) throw new Error(`${name}: relative L2 error ${error}`);
        }
      };
      expect([...whole.values()].every((g) => g.some((v) => v !== 0) && g.every((v) => Number.isFinite(v)))).toBe(true);
      same(await run(samples, { maxTokens: 1000, maxSamples: 1 }), LIMITS[tier]);
      same(await run(samples, { maxTokens: 130 }), LIMITS[tier]);
      same(await run(samples.toReversed(), { maxTokens: 1000 }), LIMITS[tier]);
      same(await run(samples, { maxTokens: 1000 }, "block"), 0); // bit-equal
      same(await run(samples, { maxTokens: 1000 }, 2), 0);
      // Another step draws another mask.
      session.parameters.zeroGrad();
      session.gpu.free(
        await accumulateGradients(session, samples, {
          limits: { maxTokens: 1000 },
          checkpointing: "none",
          lossScale,
          stepKey: 6,
        }),
      );
      const other = await session.parameters.readGradients();
      expect(Math.max(...[...whole].map(([name, g]) => relativeL2(other.get(name)!, g)))).toBeGreaterThan(0.01);
    }, 120_000);
  });
}
