import { describe, expect, test } from "bun:test";
import { defineMetric, defineOptions } from "../../core/index.ts";
import { train } from "../../index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** A metric that takes a while. */
const slow = defineMetric({
  name: "slow",
  options: defineOptions({}),
  create: () => ({
    add: () => {},
    result() {
      Bun.sleepSync(4000);
      return { slow: 1 };
    },
  }),
});

describe.skipIf(tiers.length === 0)("the pace that a run tells", () => {
  test("is that of the steps since the last log, without evaluation; the memory is what the device holds", async () => {
    await using folder = await temporaryFolder();
    const training = { maxSteps: 4, loggingSteps: 2, evalStrategy: "steps", evalSteps: 1 } as const;
    const events: RunEvent[] = [];
    const config = await smallRun(folder.path, { device: { tier: "f32" }, training, metrics: [slow()] });
    const started = performance.now();
    const { history } = await train(config, { onEvent: (event) => events.push(event) });
    const total = (performance.now() - started) / 1000;
    const logs = events.filter((event) => event.type === "log");
    const steps = events.filter((event) => event.type === "step");
    const logged = history.flatMap((entry) => entry["tokens_per_second"] ?? []);
    expect(logs.map((event) => event.tokensPerSecond)).toEqual(logged);
    expect(logged).toHaveLength(2);
    // Two steps of four samples to a log.
    const seconds = logs.reduce((sum, { samplesPerSecond }) => sum + 8 / samplesPerSecond, 0);
    expect(seconds).toBeLessThan(total - 4 * 4);
    // A step in the middle tells of the first one alone, the next of both.
    expect(4 / steps[2]!.samplesPerSecond).toBeLessThan(8 / steps[3]!.samplesPerSecond);
    // The adapter, its gradients and moments and the weights: about 1.6 MB of the tiny model, and activations that wait.
    expect(steps[3]!.memoryBytes).toBeGreaterThanOrEqual(steps[0]!.memoryBytes);
  }, 120_000);
});
