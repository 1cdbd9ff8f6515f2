import { describe, expect, test } from "bun:test";
import { train } from "../../index.ts";
import { createTargets, type TargetOptions } from "../../runtime/training/targets.ts";
import { tiers } from "../support/gpu.ts";
import { labelledRow } from "../support/row.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const rows = [labelledRow(2, [0.5, 0.25, 0.25]), labelledRow(0)];
const options: TargetOptions = { labelSmoothingFactor: 0, softLabelWeight: 0.5, softLabelTemperature: 1 };
const terms = (given: Partial<TargetOptions>): unknown =>
  createTargets({ rows }, { ...options, ...given }, 3)
    ?.of(rows)
    .map(({ temperature, values }) => [temperature, ...values]);

describe("targets", () => {
  test("are plain labels where nothing else is asked for", () => {
    expect(createTargets({ rows: [labelledRow(1)] }, options, 3)).toBeUndefined();
    expect(terms({ softLabelWeight: 0 })).toBeUndefined();
  });

  test("blend label and soft labels; a row without soft labels keeps its label whole", () => {
    expect(terms({})).toEqual([[1, 0.25, 0.125, 0.625, 1, 0, 0]]);
    expect(terms({ softLabelWeight: 1 })).toEqual([[1, 0.5, 0.25, 0.25, 1, 0, 0]]);
  });

  test("a temperature makes a term of its own, T^2 as large", () => {
    // square roots of 1/2, 1/4, 1/4 are in the ratio sqrt 2 : 1 : 1
    const share = 2 / (2 + Math.SQRT2);
    const [hard, soft] = terms({ softLabelTemperature: 2 }) as [number[], number[]];
    expect(hard).toEqual([1, 0, 0, 0.5, 1, 0, 0]);
    expect(soft[0]).toBe(2);
    [share * Math.SQRT2, share, share, 0, 0, 0].forEach((value, i) => expect(soft[i + 1]!).toBeCloseTo(value, 6));
  });

  test("class weights multiply every class", () => {
    expect(terms({ classWeights: [2, 4, 8] })).toEqual([[1, 0.5, 0.5, 5, 2, 0, 0]]);
  });

  test("what does not fit the classes is told together", () => {
    expect(() => createTargets({ rows }, { ...options, classWeights: [1] }, 2)).toThrow(
      /classWeights: got 1 numbers, expected one for each of 2 classes\n.*softLabelColumns: got 3 columns/,
    );
  });
});

describe.skipIf(tiers.length === 0)("training", () => {
  test("on the winner columns as soft labels, or with weights of 1, is training on the labels; other weights differ", async () => {
    await using folder = await temporaryFolder();
    const losses = async (training: object, data: object = {}): Promise<number[]> => {
      const more = { maxSteps: 2, loggingSteps: 1, overwriteOutputDir: true, ...training };
      const result = await train(await smallRun(folder.path, { device: { tier: "f32" }, data, training: more }));
      return result.history.flatMap((entry) => (typeof entry["loss"] === "number" ? [entry["loss"]] : []));
    };
    const plain = await losses({});
    const soft = await losses({}, { softLabelColumns: ["winner_model_a", "winner_model_b", "winner_tie"] });
    const weighted = await losses({ classWeights: [3, 3, 3] });
    expect(plain).toHaveLength(2);
    plain.forEach((loss, i) => expect(soft[i]!).toBeCloseTo(loss, 5));
    expect(weighted[0]!).toBeCloseTo(3 * plain[0]!, 5);
    const tempered = await losses(
      { softLabelTemperature: 2, softLabelWeight: 0.5 },
      { softLabelColumns: ["winner_model_a", "winner_model_b", "winner_tie"] },
    );
    expect(tempered[0]!).toBeGreaterThan(plain[0]!);
  }, 120_000);
});
