/** Sweeps: which arms a plan has, and runs of them on the tiny model. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { sweep } from "../../index.ts";
import { lora } from "../../plugins/index.ts";
import type { Config } from "../../runtime/config/config.ts";
import { armValues, checkPlan, rungsOf, type SweepPlan } from "../../sdk/sweep/arms.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const small = (folder: string, training: object = {}): Promise<Config> =>
  smallRun(folder, {
    adapter: lora({ rank: 2, targetModules: ["q_proj"], layersToTransform: [3] }),
    metrics: [],
    data: { maxLength: 24 },
    device: { tier: "f32" },
    training: { outputDir: join(folder, "sweep"), gradientAccumulationSteps: 1, maxSteps: 2, ...training },
  });

describe("arms", () => {
  test("a grid has every combination, the last option turning first", () => {
    const parameters = { "training.learningRate": [1, 2], "adapter.rank": [4, 8, 16] };
    expect(armValues({ parameters })).toEqual(
      [1, 2].flatMap((rate) => [4, 8, 16].map((rank) => ({ "training.learningRate": rate, "adapter.rank": rank }))),
    );
  });

  test("random draws fill their ranges, and are the same for the same seed", () => {
    const plan: SweepPlan = {
      method: "random",
      trials: 400,
      parameters: {
        "training.learningRate": { min: 1e-5, max: 1e-1, scale: "log" },
        "adapter.rank": { min: 1, max: 4, integer: true },
        "training.warmupRatio": { min: 0.25, max: 0.75 },
        "optimizer.weightDecay": [0, 0.1],
      },
    };
    const arms = armValues(plan);
    const of = (path: string): number[] => arms.map((values) => values[path] as number);
    expect(armValues(plan)).toEqual(arms);
    expect(armValues({ ...plan, seed: 1 })).not.toEqual(arms);
    // A quarter of the draws fall into each decade, and into each rank: within five standard deviations of 100.
    for (let decade = -5; decade < -1; decade++) {
      const count = of("training.learningRate").filter((rate) => Math.floor(Math.log10(rate)) === decade).length;
      expect(Math.abs(count - 100)).toBeLessThan(45);
    }
    for (const rank of [1, 2, 3, 4])
      expect(Math.abs(of("adapter.rank").filter((r) => r === rank).length - 100)).toBeLessThan(45);
    expect(Math.min(...of("training.warmupRatio"))).toBeGreaterThanOrEqual(0.25);
    expect(Math.max(...of("training.warmupRatio"))).toBeLessThan(0.75);
    expect(new Set(of("optimizer.weightDecay"))).toEqual(new Set([0, 0.1]));
  });

  test("rungs grow by eta up to the whole run", () => {
    expect(rungsOf(10, 3, 100)).toEqual([10, 30, 90, 100]);
    expect(rungsOf(10, 3, 90)).toEqual([10, 30, 90]);
  });

  test("a plan's problems are told together", () => {
    const plan = {
      method: "gird",
      trial: 3,
      parameters: { learningRate: [1], "adapter.rank": [], "training.seed": { min: 2, max: 1 } },
    };
    expect(() => checkPlan(plan)).toThrow(
      /sweep\.trial: unknown option; did you mean "trials"\?[\s\S]*sweep\.method: got "gird"[\s\S]*sweep\.parameters\.learningRate: expected section\.option[\s\S]*adapter\.rank: got an empty list[\s\S]*min 2 and max 1/,
    );
    expect(() => checkPlan({ method: "halving", parameters: { "adapter.rank": [1] } })).toThrow(
      "sweep.minSteps: got nothing",
    );
  });
});

describe.skipIf(tiers.length === 0)("on the tiny model", () => {
  test("a grid is trained once, ranked, written as a table and a page, and refuses another plan", async () => {
    await using folder = await temporaryFolder();
    const config = await small(folder.path);
    const plan = { parameters: { "training.learningRate": [5e-2, 0] } };
    const first = await sweep(config, plan);
    expect(first.metric).toBe("eval_loss");
    expect(first.arms.map(({ steps, state }) => [steps, state])).toEqual([
      [2, "done"],
      [2, "done"],
    ]);
    const evaluated = first.arms.map(({ outputDir }) => {
      const { log_history: history } = JSON.parse(readFileSync(join(outputDir, "trainer_state.json"), "utf8"));
      return history.findLast((entry: object) => "eval_loss" in entry).eval_loss as number;
    });
    expect(first.arms.map(({ value }) => value)).toEqual(evaluated);
    expect(evaluated[0]!).toBeLessThan(evaluated[1]!);
    expect(first.arms.map(({ arm }) => arm).toSorted((a, b) => a - b)).toEqual([0, 1]);
    const page = readFileSync(first.page, "utf8");
    expect(page.match(/<polyline/g)).toHaveLength(2);
    expect(page).toContain("training.learningRate");
    expect(page).not.toMatch(/<script|https?:\/\/(?!www\.w3\.org)/);
    expect(JSON.parse(readFileSync(join(first.outputDir, "sweep.json"), "utf8")).arms).toHaveLength(2);

    const adapter = join(first.arms[0]!.outputDir, "adapter_model.safetensors");
    const { mtimeMs } = statSync(adapter);
    expect(await sweep(config, plan)).toEqual(first);
    expect(statSync(adapter).mtimeMs).toBe(mtimeMs);
    const other = sweep(config, { parameters: { "training.learningRate": [1] } });
    expect(await other.then(String, String)).toContain("is of another plan or config");
  }, 240_000);

  test("halving stops the worse, and one that was interrupted goes on to the same", async () => {
    await using folder = await temporaryFolder();
    const plan: SweepPlan = {
      method: "halving",
      trials: 3,
      minSteps: 1,
      eta: 3,
      parameters: { "training.learningRate": { min: 1e-6, max: 5e-2, scale: "log" } },
    };
    const straight = await sweep(
      await small(folder.path, { maxSteps: 3, outputDir: join(folder.path, "straight") }),
      plan,
    );
    expect(straight.arms.map(({ steps, state }) => [steps, state])).toEqual([
      [3, "done"],
      [1, "stopped"],
      [1, "stopped"],
    ]);

    const config = await small(folder.path, { maxSteps: 3, outputDir: join(folder.path, "halted") });
    const stop = new AbortController();
    const halted = await sweep(config, plan, {
      signal: stop.signal,
      onEvent: (event) => void (event.type === "step" && stop.abort()),
    });
    expect(halted.interrupted).toBe(true);
    const resumed = await sweep(config, plan);
    const facts = ({ arms }: typeof straight): unknown =>
      arms.map(({ arm, steps, value, state }) => ({ arm, steps, value, state }));
    expect(facts(resumed)).toEqual(facts(straight));
    const best = (result: typeof straight): Buffer =>
      readFileSync(join(result.arms[0]!.outputDir, "adapter_model.safetensors"));
    expect(best(resumed).equals(best(straight))).toBe(true);
    expect(readdirSync(resumed.outputDir).filter((name) => name.startsWith("arm-"))).toHaveLength(3);
  }, 240_000);

  test("an arm that no config takes is told before anything is trained", async () => {
    await using folder = await temporaryFolder();
    const config = await small(folder.path);
    const broken = sweep(config, { parameters: { "adapter.rank": [4, 0], "training.learningRate": [1e-3] } });
    expect(await broken.then(String, String)).toContain("arm 1 ");
    expect(existsSync(config.training.outputDir)).toBe(false);
  });
});
