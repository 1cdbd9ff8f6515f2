import { describe, expect, test } from "bun:test";
import { softmaxRows } from "../../core/index.ts";
import { type ComputeGradients, defineConfig, defineLoss, train, type TrainOptions } from "../../index.ts";
import { trainingOptions, type TrainingOptionsInput } from "../../runtime/config/training-options.ts";
import { pairwiseLoss } from "../../runtime/training/pairwise.ts";
import { createStepLoss } from "../../runtime/training/step-loss.ts";
import { lossContract } from "../../testing/index.ts";
import { tiers } from "../support/gpu.ts";
import { labelledRow } from "../support/row.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const pairwise = (logits: readonly number[], label: number, weight = 1, soft?: readonly number[]) =>
  pairwiseLoss({ logits: Float64Array.from(logits), label, soft, row: labelledRow(label, soft) }, weight);

describe("pairwise", () => {
  test("is -log sigmoid of the winner's lead; a tie is half of each", () => {
    // sigmoid(log 3) = 3/4
    const [a, b] = [Math.log(3), 0];
    expect(pairwise([a, b, 9], 0).loss).toBeCloseTo(-Math.log(3 / 4), 14);
    expect(pairwise([a, b, 9], 1).loss).toBeCloseTo(-Math.log(1 / 4), 14);
    expect(pairwise([a, b, 9], 2).loss).toBeCloseTo(-Math.log(3 / 16) / 2, 14);
    expect([...(pairwise([a, b, 9], 0).dLogits as Float64Array)].map((v) => Math.round(v * 1e12) / 1e12)).toEqual([
      -0.25, 0.25, 0,
    ]);
  });

  test("of soft labels: A's share and half the tie's", () => {
    const loss = (0.5 + 0.2 / 2) * -Math.log(3 / 4) + (0.3 + 0.2 / 2) * -Math.log(1 / 4);
    expect(pairwise([Math.log(3), 0, 1], 0, 1, [0.5, 0.3, 0.2]).loss).toBeCloseTo(loss, 14);
  });

  test("two classes: the same as cross entropy, however blended", () => {
    for (const weight of [0, 0.3, 1])
      expect(pairwise([0.2, 1.1], 1, weight).loss).toBeCloseTo(Math.log1p(Math.exp(-0.9)), 14);
  });

  test("blended: softmax of log 1, log 2, log 5 gives 1/8, 2/8, 5/8", () => {
    const logits = [0, Math.log(2), Math.log(5)];
    expect(pairwise(logits, 2, 0).loss).toBeCloseTo(-Math.log(5 / 8), 14);
    const half = -Math.log(5 / 8) / 2 + -Math.log(2 / 9) / 4;
    expect(pairwise(logits, 2, 0.5).loss).toBeCloseTo(half, 14);
  });

  test("large leads neither overflow nor vanish", () => {
    expect(pairwise([2000, 0, 0], 1).loss).toBe(2000);
    expect(pairwise([2000, 0, 0], 0).loss).toBe(0);
  });

  for (const weight of [1, 0.25]) {
    const loss = defineLoss({ name: "pairwise", compute: (input) => pairwiseLoss(input, weight) });
    for (const { name, run } of lossContract(loss)) test(`weight ${weight}: ${name}`, run);
  }
});

describe("a loss that is wrong is caught", () => {
  test("by its gradient", async () => {
    const wrong = defineLoss({
      name: "wrong",
      compute: (input) => ({ ...pairwiseLoss(input, 1), loss: input.logits[0]! ** 2 }),
    });
    const [gradient] = lossContract(wrong);
    expect(gradient!.run()).rejects.toThrow("wrong: row 0: dLogits: relative error");
  });

  test("by what it remembers", async () => {
    let calls = 0;
    const wrong = defineLoss({
      name: "counts",
      compute: ({ logits }) => ({ loss: calls++, dLogits: logits.map(() => 0) }),
    });
    expect(lossContract(wrong)[1]!.run()).rejects.toThrow("counts: row 11");
  });

  test("by the number of its derivatives", () => {
    const { rowLoss } = createStepLoss(
      [labelledRow(0)],
      {
        loss: defineLoss({ name: "short", compute: () => ({ loss: 1, dLogits: [1] }) }),
        training: trainingOptions.parse({}),
      },
      3,
    );
    const sample = { index: 0, label: 0, inputIds: new Uint32Array(1) };
    expect(() => rowLoss!(sample, new Float64Array(3))).toThrow(
      "loss short: got a loss of type number and 1 numbers in dLogits, expected a number and one for each of 3 classes",
    );
  });
});

describe("the loss of a run", () => {
  const of = (training: TrainingOptionsInput, rows = [labelledRow(0, [0.5, 0.25, 0.25])], numLabels = 3) =>
    createStepLoss(rows, { loss: undefined, training: trainingOptions.parse(training) }, numLabels);

  test("auto is soft-label where there are soft labels; cross-entropy never looks at them", () => {
    const samples = [{ index: 0, label: 0, inputIds: new Uint32Array(1) }];
    for (const loss of ["auto", "soft-label"] as const)
      expect([...of({ loss }).targets!.of(samples)[0]!.values]).toEqual([0.5, 0.25, 0.25]);
    expect(of({ loss: "cross-entropy" })).toEqual({});
    expect(of({}, [labelledRow(1)])).toEqual({});
  });

  test("what cannot be meant is refused", async () => {
    expect(() => of({ loss: "soft-label" }, [labelledRow(0)])).toThrow("got soft-label without data.softLabelColumns");
    expect(() => of({ loss: "pairwise" }, [labelledRow(0)], 4)).toThrow("got pairwise with 4 classes");
    expect(() => of({ loss: "pairwise", classWeights: [1, 1, 1] })).toThrow("got pairwise with classWeights");
    expect(() => of({ pairwiseWeight: 0.5 })).toThrow("pairwiseWeight: got 0.5 with loss auto");
    await using folder = await temporaryFolder();
    const { input: given } = await smallRun(folder.path);
    const loss = defineLoss({ name: "mine", compute: ({ logits }) => ({ loss: 0, dLogits: logits }) });
    expect(() => defineConfig({ ...given, loss, training: { loss: "pairwise" } })).toThrow(
      "loss: got mine together with training.loss or training.classWeights",
    );
    for (const [option, value] of [
      ["softLabelWeight", 0.5],
      ["softLabelTemperature", 2],
    ] as const) {
      const set = { [option]: value };
      const unused = `training.${option}: got ${value} with`;
      expect(() => defineConfig({ ...given, loss, training: set })).toThrow(
        `${unused} loss mine, which leaves it unused`,
      );
      expect(() => defineConfig({ ...given, training: { ...set, loss: "cross-entropy" } })).toThrow(
        `${unused} loss cross-entropy, which leaves it unused, expected loss soft-label`,
      );
      expect(() => of(set, [labelledRow(0)])).toThrow(`training.${option}: got ${value} without data.softLabelColumns`);
      expect(of(set).targets).toBeDefined();
      expect(defineConfig({ ...given, training: set }).training[option]).toBe(value);
      // The default says nothing: it is what takes back a value of the config file.
      expect(defineConfig({ ...given, loss, training: { [option]: 1 } }).training[option]).toBe(1);
    }
    expect(() => defineConfig({ ...given, training: { softLabelWeight: 0, softLabelTemperature: 2 } })).toThrow(
      "training.softLabelTemperature: got 2 with softLabelWeight 0, which leaves it unused",
    );
    // @ts-expect-error a loss is no function
    expect(() => defineConfig({ ...given, loss: () => 0 })).toThrow("expected a loss (what defineLoss returns)");
  });
});

describe.skipIf(tiers.length === 0)("training", () => {
  const crossEntropy = defineLoss({
    name: "cross entropy, once more",
    compute({ logits, label }) {
      const p = softmaxRows(logits, logits.length);
      return { loss: -Math.log(p[label]!), dLogits: p.map((value, c) => value - (c === label ? 1 : 0)) };
    },
  });

  test("with a loss of one's own, or gradients by halves, equals the kernels'; pairwise falls", async () => {
    await using folder = await temporaryFolder();
    const norms: number[][] = []; // Adam hides the size of a gradient, its norm does not
    const losses = async (parts: object, training: object = {}, options: TrainOptions = {}): Promise<number[]> => {
      const more = { maxSteps: 3, loggingSteps: 1, overwriteOutputDir: true, tokenBudget: 100, ...training };
      const config = await smallRun(folder.path, { device: { tier: "f32" }, ...parts, training: more });
      const { history } = await train(config, options);
      norms.push(history.flatMap((entry) => (typeof entry["grad_norm"] === "number" ? [entry["grad_norm"]] : [])));
      return history.flatMap((entry) => (typeof entry["loss"] === "number" ? [entry["loss"]] : []));
    };
    const plain = await losses({});
    const own = await losses({ loss: crossEntropy });
    const halves: ComputeGradients = async ({ samples, backward }) => {
      await backward(samples.slice(0, 1));
      await backward(samples.slice(1));
    };
    const cut = await losses({}, {}, { computeGradients: halves });
    expect(plain).toHaveLength(3);
    plain.forEach((loss, step) => {
      expect(own[step]!).toBeCloseTo(loss, 5);
      expect(cut[step]!).toBeCloseTo(loss, 5);
      for (const other of norms.slice(1)) expect(other[step]! / norms[0]![step]!).toBeCloseTo(1, 4);
    });
    // Under a loss scale the same holds: tier f16 has one wherever it is offered.
    const scaled = async (parts: object): Promise<number> => {
      await losses({ ...parts, device: { tier: tiers.at(-1)! } }, { maxSteps: 1 });
      return norms.at(-1)![0]!;
    };
    expect((await scaled({ loss: crossEntropy })) / (await scaled({}))).toBeCloseTo(1, 3);
    const record = await Bun.file(`${folder.path}/run/run.json`).json();
    expect(record.config.loss).toBeUndefined();

    const warnings: string[] = [];
    const pair = await losses(
      {},
      { loss: "pairwise", maxSteps: 12, learningRate: 5e-3 },
      { onEvent: (event) => void (event.type === "warning" && warnings.push(event.message)) },
    );
    const mean = (part: readonly number[]): number => part.reduce((sum, value) => sum + value, 0) / part.length;
    expect(mean(pair.slice(-4))).toBeLessThan(mean(pair.slice(0, 4)));
    expect(warnings).toEqual([expect.stringContaining("leaves the tie's logit untrained")]);

    const nothing = losses({}, {}, { computeGradients: async () => {} });
    expect(nothing).rejects.toThrow("step 1: computeGradients called backward for no sample");
  }, 120_000);
});
