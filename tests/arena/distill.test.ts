/** Teachers to a student: soft labels joined by id, what is refused, and the whole way on a tiny model. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { defineConfig, distill } from "../../index.ts";
import { augmentBySwapping } from "../../runtime/data/swap.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { joinSoftLabels } from "../../runtime/data/soft-label-file.ts";
import { readProbabilities } from "../../sdk/probabilities.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe("joinSoftLabels", () => {
  const HEAD = "id,winner_model_a,winner_model_b,winner_tie\n";

  test("joins by id whatever the order of rows and columns; a swapped row has A and B exchanged", async () => {
    await using folder = await temporaryFolder();
    const config = await smallRun(folder.path);
    const data = await loadDataset(config.data.trainFiles);
    const ids = data.rows.map(({ id }) => id);
    const file = join(folder.path, "soft.csv");
    const lines = ids.toReversed().map((id, i) => `0.25,${id},${i % 2 === 0 ? "0.5,0.25" : "0.75,0"}\n`);
    await writeFile(file, `winner_tie,id,winner_model_a,winner_model_b\n${lines.join("")}`);
    const { rows } = augmentBySwapping(joinSoftLabels(data, file));
    const odd = (ids.length - 1) % 2 === 1; // of the first row, which stands last in the file
    expect(rows[0]!.soft).toEqual(odd ? [0.75, 0, 0.25] : [0.5, 0.25, 0.25]);
    expect(rows[ids.length]!.soft).toEqual(odd ? [0, 0.75, 0.25] : [0.25, 0.5, 0.25]);
  });

  test("refuses a row without a teacher, other classes, ids that stand twice and what is no probability", async () => {
    await using folder = await temporaryFolder();
    const data = await loadDataset((await smallRun(folder.path)).data.trainFiles);
    const file = join(folder.path, "soft.csv");
    const all = data.rows.map(({ id }) => `${id},0.5,0.25,0.25\n`);
    const joined = async (text: string): Promise<unknown> => {
      await writeFile(file, text);
      try {
        return joinSoftLabels(data, file);
      } catch (error) {
        return error;
      }
    };
    expect(await joined(HEAD + all.slice(1).join(""))).toMatchObject({
      code: "SOFT_LABELS_MISSING",
      message: expect.stringContaining(`1 of ${all.length} training rows have no soft labels`),
    });
    expect(await joined(`id,label_0,label_1,label_2\n${all.join("")}`)).toMatchObject({ code: "SOFT_LABELS_DIFFER" });
    expect(await joined(HEAD + all[0] + all.join(""))).toMatchObject({ code: "DATA_ID_TWICE" });
    expect(await joined(HEAD + all.join("").replace("0.5", "0.7"))).toMatchObject({ code: "DATA_CELL_INVALID" });
    expect(await joined(HEAD + all.join(""))).toMatchObject({ rows: expect.anything() });
  });
});

test("a run has seen its rows, so it is no teacher; and somebody must teach", async () => {
  await using folder = await temporaryFolder();
  const config = await smallRun(folder.path);
  const refused = (teachers: readonly string[]): Promise<unknown> =>
    distill(config, { teachers }).catch((error: unknown) => error);
  expect(await refused([folder.path])).toMatchObject({
    code: "DISTILL_TEACHERS",
    hint: expect.stringContaining("qlora cv"),
  });
  expect(await refused([])).toMatchObject({ code: "DISTILL_TEACHERS" });
});

test.skipIf(tiers.length === 0)(
  "a config and a file teach a student",
  async () => {
    await using folder = await temporaryFolder();
    const small = await smallRun(folder.path, { device: { tier: "f32" } });
    const { nSplits: _n, ...data } = small.input.data!;
    const training = { ...small.input.training, maxSteps: 2, outputDir: join(folder.path, "distill") };
    const config = defineConfig({ ...small.input, data, training });
    const first = await distill(config, { teachers: [config], folds: 2, calibrate: false });
    expect(first.weights).toEqual([1]);
    const [mean, alone] = [readProbabilities(first.softLabels), readProbabilities(first.teachers[0]!)];
    expect(mean.rows.map(({ id }) => id)).toEqual(alone.rows.map(({ id }) => id));
    for (const [i, { values }] of mean.rows.entries())
      for (const [c, value] of values.entries()) expect(value).toBeCloseTo(alone.rows[i]!.values[c]!, 12);
    expect(first.student!.steps).toBe(2);
    expect(existsSync(join(training.outputDir, "student", "adapter_model.safetensors"))).toBe(true);

    const again = { ...training, outputDir: join(folder.path, "second") };
    const file = first.teachers[0]!;
    const second = await distill(defineConfig({ ...config.input, training: again }), {
      teachers: [file, join(training.outputDir, "teacher-0")],
      recipe: "blackpearl",
    });
    expect(second.teachers).toEqual([file, file]);
    expect(second.fit!.fitted).toBeLessThanOrEqual(second.fit!.equalWeights);
    const record = JSON.parse(readFileSync(join(again.outputDir, "student", "run.json"), "utf8")) as {
      config: { loss: object; data: { softLabelFile: string } };
    };
    expect(record.config.loss).toMatchObject({
      name: "distillation",
      options: { crossEntropy: 0.2, kl: 0.4, cosine: 0.4 },
    });
    expect(record.config.data.softLabelFile).toBe(second.softLabels);
  },
  240_000,
);
