/** What `qlora bench` times. */
import { describe, expect, test } from "bun:test";
import { bench } from "../../index.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { tiers } from "../support/gpu.ts";
import { testProvider } from "../support/run.ts";

const timed = async (warmup: number, steps: number) => {
  const options = benchOptions.parse({ tokens: 8, batch: 1, rank: 2, warmup, steps }, "bench");
  const device = { gpu: testProvider, tier: tiers[0]!, robustness: true, memoryBudget: undefined };
  return (await bench({ ...options, device }))!;
};

describe.skipIf(tiers.length === 0)("warm-up steps", () => {
  test("with none the first step is timed too; they are the same steps", async () => {
    const cold = await timed(0, 2);
    expect(cold.stepSeconds).toHaveLength(2);
    // Its clocks start one after the other, so a first step that is not among the timed ones would be missing here.
    expect(cold.secondsToFirstStep).toBeGreaterThanOrEqual(cold.loadSeconds + cold.stepSeconds[0]!);
    const warm = await timed(1, 1);
    expect(warm.stepSeconds).toHaveLength(1);
    expect(warm.lastLoss).toBe(cold.lastLoss);
  }, 240_000);
});
