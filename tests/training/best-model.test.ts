/** The best checkpoint of a run: chosen, spared, loaded at the end, read by name; and runs that stop early. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { defineMetric, defineOptions, option } from "../../core/index.ts";
import { demoCsv } from "../../demo/generate.ts";
import { predict, type RunEvent, train, trainer, writeFileAtomic } from "../../index.ts";
import { logLoss, lora } from "../../plugins/index.ts";
import type { Config } from "../../runtime/config/config.ts";
import { bestCriterion } from "../../runtime/config/interval-options.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { BestModel } from "../../runtime/training/best-model.ts";
import { intervalsOf } from "../../runtime/training/intervals.ts";
import { tiers } from "../support/gpu.ts";
import { failure } from "../support/failure.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** Gives the numbers of a list, one an evaluation; the first `create` is the trial before a run. */
const scripted = (values: readonly number[]) => {
  let made = -1;
  return defineMetric({
    name: "scripted",
    options: defineOptions({ seen: option("number", { default: 0, help: "evaluations of a run before" }) }),
    create: ({ seen }) => {
      const at = seen + made++;
      return { add() {}, result: () => ({ scripted_loss: values[at] ?? 0 }) };
    },
  });
};

const small = (folder: string, values: readonly number[], training: object, seen = 0): Promise<Config> =>
  smallRun(folder, {
    adapter: lora({ rank: 2, targetModules: ["q_proj"], layersToTransform: [3] }),
    metrics: [logLoss(), scripted(values)({ seen })],
    data: { maxLength: 24 },
    device: { tier: "f32" },
    training: {
      learningRate: 1e-2,
      gradientAccumulationSteps: 1,
      maxSteps: 5,
      evalStrategy: "steps",
      evalSteps: 1,
      saveSteps: 1,
      loadBestModelAtEnd: true,
      metricForBestModel: "scripted_loss",
      ...training,
    },
  });

const checkpoints = (run: string): string[] =>
  readdirSync(run)
    .filter((name) => name.startsWith("checkpoint-"))
    .sort();
const state = (folder: string) => JSON.parse(readFileSync(join(folder, "trainer_state.json"), "utf8"));
const adapter = (folder: string): string => readFileSync(join(folder, "adapter_model.safetensors"), "base64");
const predicted = async (run: string, config: Config): Promise<unknown> => {
  const file = join(config.training.outputDir, "rows.csv");
  await writeFileAtomic(file, demoCsv(3, 5));
  const { rows } = await predict({ run, files: [file], device: config.device });
  return rows.map(({ values }) => values);
};

/** Better, worse, worse ...: the second step is the best. */
const SECOND = [3, 1, 2, 4, 5];

describe.skipIf(tiers.length === 0)("a run that ends with its best", () => {
  test("keeps it beyond the limit, and is read by name", async () => {
    await using folder = await temporaryFolder();
    const config = await small(folder.path, SECOND, { saveTotalLimit: 1 });
    const events: RunEvent[] = [];
    const { outputDir, steps, metrics } = await train(config, { onEvent: (event) => events.push(event) });
    const best = join(outputDir, "checkpoint-2");
    expect(steps).toBe(5);
    expect(checkpoints(outputDir)).toEqual(["checkpoint-2"]);
    expect(adapter(outputDir)).toBe(adapter(best));
    expect(state(outputDir)).toMatchObject({
      best_metric: 1,
      best_global_step: 2,
      best_model_checkpoint: best,
      global_step: 5,
    });
    expect(events.map((event) => (event.type === "info" ? event.message : ""))).toContain(
      `the run ends with its best checkpoint, ${best}: eval_scripted_loss 1`,
    );
    const losses = state(outputDir).log_history.filter((entry: object) => "eval_loss" in entry);
    expect(losses.map(({ step }: { step: number }) => step)).toEqual([1, 2, 3, 4, 5]);
    expect(metrics["eval_loss"]).toBe(losses[1].eval_loss);
    expect(losses[4].eval_loss).not.toBe(losses[1].eval_loss);
    expect(JSON.parse(readFileSync(join(outputDir, "evaluation.json"), "utf8")).step).toBe(2);

    const found = await findAdapter(outputDir);
    expect(found.directory).toBe(outputDir);
    expect(found.notes).toEqual([
      `${outputDir}: its adapter is that of the best checkpoint, step 2: eval_scripted_loss 1`,
    ]);
    expect(await predicted(outputDir, config)).toEqual(await predicted(best, config));
  }, 120_000);

  test("resumed in its middle, gives the same; before its end, the best so far is read", async () => {
    await using folder = await temporaryFolder();
    const straight = await train(
      await small(folder.path, SECOND, { saveTotalLimit: 2, outputDir: join(folder.path, "straight") }),
    );
    expect(checkpoints(straight.outputDir)).toEqual(["checkpoint-2", "checkpoint-5"]);

    const outputDir = join(folder.path, "halted");
    const stop = new AbortController();
    for await (const { step } of trainer(await small(folder.path, SECOND, { saveTotalLimit: 2, outputDir }), {
      signal: stop.signal,
    }))
      if (step === 3) stop.abort();
    expect(checkpoints(outputDir)).toEqual(["checkpoint-2", "checkpoint-3"]);
    const found = await findAdapter(outputDir);
    expect(found.directory).toBe(join(outputDir, "checkpoint-2"));
    expect(found.notes[0]).toContain("that of its best checkpoint is taken");

    const again = await small(folder.path, SECOND, { saveTotalLimit: 2, outputDir, resumeFromCheckpoint: true }, 3);
    const resumed = await train(again);
    expect(resumed.steps).toBe(5);
    expect(checkpoints(outputDir)).toEqual(["checkpoint-2", "checkpoint-5"]);
    expect(adapter(outputDir)).toBe(adapter(straight.outputDir));
    expect(adapter(join(outputDir, "checkpoint-5"))).toBe(adapter(join(straight.outputDir, "checkpoint-5")));
    expect(resumed.metrics).toEqual(straight.metrics);
    expect(state(outputDir)).toMatchObject({
      best_metric: 1,
      best_global_step: 2,
      best_model_checkpoint: join(outputDir, "checkpoint-2"),
    });
  }, 120_000);

  test("whose best is gone says so, and ends with its last", async () => {
    await using folder = await temporaryFolder();
    await train(await small(folder.path, SECOND, { maxSteps: 3 }));
    const outputDir = join(folder.path, "run");
    rmSync(join(outputDir, "checkpoint-2"), { recursive: true });
    const events: RunEvent[] = [];
    const further = { maxSteps: 4, resumeFromCheckpoint: join(outputDir, "checkpoint-3") };
    await train(await small(folder.path, SECOND, further, 3), { onEvent: (event) => events.push(event) });
    const warnings = events.flatMap((event) => (event.type === "warning" ? [event.message] : []));
    expect(warnings).toEqual([
      `the best checkpoint of the run, ${join(outputDir, "checkpoint-2")}, is gone: the run ends with one that is better still, or with its last`,
      "loadBestModelAtEnd: no checkpoint is the best by eval_scripted_loss; the run ends with its last step",
    ]);
    expect(adapter(outputDir)).toBe(adapter(join(outputDir, "checkpoint-4")));
    expect(state(outputDir)).toMatchObject({ best_metric: 1, best_global_step: 2, best_model_checkpoint: null });
  }, 120_000);

  test("with saveStrategy best saves only what is better than ever", async () => {
    await using folder = await temporaryFolder();
    const training = {
      saveStrategy: "best",
      maxSteps: 4,
      loggingSteps: 100,
      loggingFirstStep: true,
      evalOnStart: true,
    };
    const { outputDir, history } = await train(await small(folder.path, [9, 3, 1, 2, 4], training));
    expect(checkpoints(outputDir)).toEqual(["checkpoint-1", "checkpoint-2"]);
    expect(adapter(outputDir)).toBe(adapter(join(outputDir, "checkpoint-2")));
    expect(history.map((entry) => [entry.step, Object.keys(entry).find((key) => key.endsWith("loss"))])).toEqual([
      [0, "eval_loss"],
      [1, "loss"],
      [1, "eval_loss"],
      [2, "eval_loss"],
      [3, "eval_loss"],
      [4, "loss"],
      [4, "eval_loss"],
      [4, "train_loss"],
    ]);
  }, 120_000);
});

describe.skipIf(tiers.length === 0)("a run that stops early", () => {
  test("does so after two evaluations that are no better, resumed or not", async () => {
    await using folder = await temporaryFolder();
    const training = { earlyStoppingPatience: 2, maxSteps: 50 };
    const events: RunEvent[] = [];
    const config = await small(folder.path, SECOND, training);
    const { steps, outputDir, interrupted, totalSteps } = await train(config, { onEvent: (e) => events.push(e) });
    expect({ steps, totalSteps, interrupted }).toEqual({ steps: 4, totalSteps: 50, interrupted: false });
    expect(events.map((event) => (event.type === "info" ? event.message : ""))).toContain(
      "stopped early at step 4 of 50: the last 2 evaluations are no better than eval_scripted_loss 1 of step 2",
    );
    expect(adapter(outputDir)).toBe(adapter(join(outputDir, "checkpoint-2")));
    // As transformers' EarlyStoppingCallback writes itself.
    expect(state(outputDir).stateful_callbacks).toMatchObject({
      EarlyStoppingCallback: {
        args: { early_stopping_patience: 2, early_stopping_threshold: 0 },
        attributes: { early_stopping_patience_counter: 2 },
      },
      TrainerControl: { args: { should_training_stop: true } },
    });
    const again = { ...training, resumeFromCheckpoint: join(outputDir, "checkpoint-3") };
    expect((await train(await small(folder.path, SECOND, again, 3))).steps).toBe(4);
  }, 120_000);
});

describe("by hand, from transformers' Trainer and EarlyStoppingCallback", () => {
  const loss = { metric: "eval_loss", greaterIsBetter: false };
  const follow = (values: readonly number[], parts: object): (string | number | null)[] => {
    const best = new BestModel({ criterion: loss, earlyStoppingThreshold: 0, ...parts });
    for (const [i, value] of values.entries()) {
      best.evaluated({ eval_loss: value }, i + 1);
      if (best.stops) return [best.state.metric, best.state.step, `stops after ${i + 1}`];
    }
    return [best.state.metric, best.state.step, best.state.patience];
  };

  test("an improvement below the threshold is the best, and yet spends patience", () => {
    expect(follow([3, 2.95, 2.9], { earlyStoppingPatience: 2, earlyStoppingThreshold: 0.1 })).toEqual([
      2.9,
      3,
      "stops after 3",
    ]);
    expect(follow([3, 2.95, 2.5, 2.6], { earlyStoppingPatience: 2, earlyStoppingThreshold: 0.1 })).toEqual([2.5, 3, 1]);
  });

  test("equal is no better; NaN never is", () => {
    expect(follow([2, 2, 2], { earlyStoppingPatience: 3 })).toEqual([2, 1, 2]);
    expect(follow([Number.NaN, 2, Number.NaN], {})).toEqual([2, 2, 1]);
    expect(follow([1, 3, 2], { criterion: { ...loss, greaterIsBetter: true } })).toEqual([3, 2, 1]);
  });

  test("a checkpoint counts as the best once it is saved at that step", () => {
    const best = new BestModel({ criterion: loss, earlyStoppingThreshold: 0 });
    best.evaluated({ eval_loss: 2 }, 1);
    best.saved(1);
    best.evaluated({ eval_loss: 1 }, 2);
    best.evaluated({ eval_loss: 3 }, 3);
    best.saved(3);
    expect(best.state).toEqual({ metric: 1, step: 2, checkpoint: 1, patience: 1 });
  });

  test("names and directions of metrics", () => {
    const criterion = (input: object) =>
      bestCriterion(trainingOptions.parse({ evalStrategy: "epoch", saveStrategy: "epoch", ...input }));
    expect(criterion({})).toBeUndefined();
    expect(criterion({ loadBestModelAtEnd: true })).toEqual(loss);
    expect(criterion({ earlyStoppingPatience: 1 })).toEqual(loss);
    expect(criterion({ metricForBestModel: "accuracy" })).toEqual({ metric: "eval_accuracy", greaterIsBetter: true });
    expect(criterion({ metricForBestModel: "eval_log_loss" })?.greaterIsBetter).toBe(false);
    // transformers would take the highest Brier score.
    expect(criterion({ metricForBestModel: "brier" })?.greaterIsBetter).toBe(false);
    expect(criterion({ metricForBestModel: "brier", greaterIsBetter: true })?.greaterIsBetter).toBe(true);
  });

  test("shares of steps are rounded up", () => {
    const shares = { loggingSteps: 0.01, evalSteps: 0.1, saveSteps: 0.25 };
    expect(intervalsOf(shares, 51)).toEqual({ loggingSteps: 1, evalSteps: 6, saveSteps: 13 });
    expect(intervalsOf({ loggingSteps: 1, evalSteps: 7, saveSteps: 500 }, 51)).toEqual({
      loggingSteps: 1,
      evalSteps: 7,
      saveSteps: 500,
    });
  });

  test("what transformers refuses is refused", () => {
    const problems = (input: object): readonly string[] => {
      const checked = trainingOptions.check(input);
      return checked.ok ? [] : checked.problems;
    };
    expect(problems({ loadBestModelAtEnd: true })).toEqual([
      "evalStrategy: got no with loadBestModelAtEnd, expected steps or epoch",
    ]);
    expect(problems({ loadBestModelAtEnd: true, evalStrategy: "epoch" })).toEqual([
      "loadBestModelAtEnd: got evalStrategy epoch with saveStrategy steps, expected the same, or saveStrategy best",
    ]);
    const steps = { loadBestModelAtEnd: true, evalStrategy: "steps" };
    expect(problems({ ...steps, evalSteps: 2, saveSteps: 5 })).toEqual([
      "loadBestModelAtEnd: got saveSteps 5 with evalSteps 2, expected a multiple of it",
    ]);
    expect(problems({ ...steps, evalSteps: 0.1, saveSteps: 5 })).toEqual([
      "loadBestModelAtEnd: got evalSteps 0.1 with saveSteps 5, expected both as shares or as counts",
    ]);
    expect(problems({ ...steps, evalSteps: 0.1, saveSteps: 0.3 })).toEqual([]);
    expect(problems({ evalSteps: 2.5 })).toEqual(["evalSteps: got 2.5, expected a whole number, or a share below 1"]);
    expect(problems({ earlyStoppingThreshold: 0.5, greaterIsBetter: true })).toEqual([
      "greaterIsBetter: got it without metricForBestModel, which leaves it unused",
      "earlyStoppingThreshold: got it without earlyStoppingPatience, which leaves it unused",
    ]);
  });
});

describe("before anything is loaded", () => {
  test("a metric that no evaluation gives is refused, and so is no evaluation", async () => {
    await using folder = await temporaryFolder();
    const unknown = await small(folder.path, [], { metricForBestModel: "acuracy" });
    expect(await failure(train(unknown))).toContain(
      "training.metricForBestModel: got eval_acuracy, expected one of eval_loss, eval_log_loss, eval_scripted_loss",
    );
    const config = await small(folder.path, [], {});
    const none = { ...config, data: { ...config.data, nSplits: undefined } };
    expect(await failure(train(none))).toContain(
      'training.evalStrategy: got "steps", but neither data.evalFiles nor data.nSplits says on what',
    );
  });
});
