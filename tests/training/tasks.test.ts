/** Tasks beside classification, from the data through training to what is written, predicted and merged. */
import { describe, expect, test } from "bun:test";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parsePythonJson } from "../../core/formats/python-json.ts";
import { evaluate, merge, predict, train } from "../../index.ts";
import { mae, mse, multiLabelF1, pearson } from "../../plugins/index.ts";
import type { ConfigInput } from "../../runtime/config/config.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const device = { tier: "f32" } as const;

const json = async (...path: string[]) =>
  parsePythonJson(await readFile(join(...path), "utf8")) as Record<string, unknown>;

async function taskRun(folder: string, lines: readonly string[], parts: Partial<ConfigInput>, name = "rows.jsonl") {
  const file = join(folder, name);
  await writeFile(file, `${lines.join("\n")}\n`);
  const training = { maxSteps: 2, evalStrategy: "steps", evalSteps: 2, ...parts.training } as const;
  const config = await smallRun(folder, {
    device,
    metrics: [],
    ...parts,
    training,
    data: { trainFiles: [file], nSplits: 2 },
  });
  return { file, config };
}

describe.skipIf(tiers.length === 0)("tasks", () => {
  test("regression of a list: run.json, the adapter, evaluation.json, report, predictions, evaluation, a moved adapter, the merged model", async () => {
    await using folder = await temporaryFolder();
    const targets = [0.5, -1, 2, 0.25, 1.5, 0];
    const lines = targets.map((y, i) => `{"id":"r${i}","text":"mail ${i}","label":[${y},${y + 1}]}`);
    const { file, config } = await taskRun(folder.path, lines, {
      task: "regression",
      metrics: [mse(), mae(), pearson()],
    });
    const { outputDir: run, metrics } = await train(config);
    expect((await json(run, "run.json"))["data"]).toMatchObject({ numLabels: 2 });
    expect((await json(run, "run.json"))["config"]).toMatchObject({ task: { task: "regression" } });
    expect(await json(run, "qlora.json")).toMatchObject({
      task: "regression",
      problem_type: "regression",
      num_labels: 2,
    });
    expect(await json(run, "adapter_config.json")).toMatchObject({ task_type: "SEQ_CLS" });
    const held = [0, 2, 4];
    const evaluation = await json(run, "evaluation.json");
    expect(evaluation["targets"]).toEqual(held.map((i) => [targets[i], targets[i]! + 1]));
    expect(await readFile(join(run, "report.html"), "utf8")).toContain("mean absolute error");

    const predicted = await predict({ run, files: [file], device });
    expect(predicted.columns).toEqual(["score_0", "score_1"]);
    const errors = held.flatMap((i) => predicted.rows[i]!.values.map((value, k) => value - (targets[i]! + k)));
    const meanSquare = errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length;
    expect(metrics["eval_mse"]!).toBeCloseTo(meanSquare, 5);
    expect(metrics["eval_loss"]!).toBeCloseTo(meanSquare, 5);
    expect(metrics["eval_mae"]!).toBeCloseTo(
      errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length,
      5,
    );
    expect((await evaluate({ run, device })).metrics["eval_loss"]!).toBeCloseTo(meanSquare, 5);

    const moved = join(folder.path, "moved");
    await cp(run, moved, { recursive: true });
    await rm(join(moved, "run.json"));
    const elsewhere = { run: moved, files: [file], baseModel: tinyCheckpoint, device, data: { maxLength: 64 } };
    expect((await predict(elsewhere)).rows).toEqual(predicted.rows);
    expect(Object.keys((await evaluate(elsewhere)).metrics)).toContain("eval_spearman");
    expect(await failure(predict({ ...elsewhere, task: "classification" }))).toContain(
      `task: got classification, but ${moved} was trained for the task regression`,
    );

    const outputDir = join(folder.path, "merged");
    const { difference } = await merge({ run, outputDir, rows: 2, device });
    expect(difference).toBeDefined();
    expect(await json(outputDir, "config.json")).toMatchObject({
      problem_type: "regression",
      id2label: { "0": "LABEL_0", "1": "LABEL_1" },
    });
  }, 300_000);

  test("multi-label columns: names are kept, probabilities are sigmoids, the loss is that of each label", async () => {
    await using folder = await temporaryFolder();
    const labels = [[1, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]]; // prettier-ignore
    const lines = ["id,text,rude,spam", ...labels.map(([a, b], i) => `r${i},mail ${i},${a},${b}`)];
    const task = { task: "multi-label", labelColumns: ["rude", "spam"] } as const;
    const { file, config } = await taskRun(folder.path, lines, { task, metrics: [multiLabelF1()] }, "rows.csv");
    const { outputDir: run, metrics } = await train(config);
    const id2label = { "0": "rude", "1": "spam" };
    expect((await json(run, "run.json"))["data"]).toMatchObject({ numLabels: 2, id2label });
    expect(await json(run, "qlora.json")).toMatchObject({ problem_type: "multi_label_classification", id2label });
    expect(await readFile(join(run, "report.html"), "utf8")).toContain("F1 at 0.5");
    const predicted = await predict({ run, files: [file], device });
    expect(predicted.columns).toEqual(["rude", "spam"]);
    const losses = [0, 2, 4].flatMap((i) =>
      predicted.rows[i]!.values.map((p, k) => -Math.log(labels[i]![k] === 1 ? p : 1 - p)),
    );
    expect(metrics["eval_loss"]!).toBeCloseTo(losses.reduce((sum, loss) => sum + loss, 0) / losses.length, 5);
    const raw = await predict({ run, files: [file], device, logits: true });
    raw.rows.forEach(({ values }, i) =>
      values.forEach((x, k) => expect(predicted.rows[i]!.values[k]!).toBeCloseTo(1 / (1 + Math.exp(-x)), 6)),
    );
    // Lists of names have the same places.
    const named = join(folder.path, "named.jsonl");
    await writeFile(named, '{"text":"mail 0","labels":["rude"]}\n{"text":"mail 3","labels":[]}\n');
    const scored = await evaluate({ run, files: [named], device, labelColumns: ["labels"] });
    const two = [0, 3].flatMap((i) =>
      predicted.rows[i]!.values.map((p, k) => -Math.log(labels[i]![k] === 1 ? p : 1 - p)),
    );
    expect(scored.metrics["eval_loss"]!).toBeCloseTo(two.reduce((sum, loss) => sum + loss, 0) / 4, 5);

    const outputDir = join(folder.path, "merged");
    await merge({ run, outputDir, rows: 0, device });
    expect(await json(outputDir, "config.json")).toMatchObject({
      problem_type: "multi_label_classification",
      id2label,
    });
  }, 300_000);
});
