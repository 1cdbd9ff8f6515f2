/** Tasks beside classification, from the data through training to what is written, predicted and merged. */
import { describe, expect, test } from "bun:test";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parsePythonJson } from "../../core/formats/python-json.ts";
import { evaluate, merge, predict, train } from "../../index.ts";
import { mae, mse, multiLabelF1, pairAccuracy, pearson } from "../../plugins/index.ts";
import type { ConfigInput } from "../../runtime/config/config.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
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

  test("reward: both answers of a pair in one step, trl's loss and accuracy, scores of answers and of texts", async () => {
    await using folder = await temporaryFolder();
    const pairs = [["Hi", "Hello", "Go"], ["Bye", "See you", "No"], ["Two", "2", "5"], ["A", "a", "b"]]; // prettier-ignore
    const lines = pairs.map(([prompt, chosen, rejected], i) =>
      JSON.stringify({ id: `r${i}`, prompt, chosen, rejected }),
    );
    const parts = { task: "reward", metrics: [pairAccuracy()] } as const;
    const { file, config } = await taskRun(folder.path, lines, parts);
    const messages: string[] = [];
    const { outputDir: run, metrics } = await train(config, {
      onEvent: (event) => "message" in event && messages.push(event.message),
    });
    expect(messages.join("\n")).toContain("2 steps over 2 pairs");
    expect((await json(run, "run.json"))["data"]).toMatchObject({ numLabels: 1, evalRows: 4 });
    expect(await json(run, "qlora.json")).toMatchObject({ task: "reward", problem_type: null, num_labels: 1 });
    expect(await readFile(join(run, "report.html"), "utf8")).toContain("chosen scored higher");

    const predicted = await predict({ run, files: [file], device });
    expect(predicted.columns).toEqual(["score"]);
    expect(predicted.rows.map(({ id }) => id).slice(0, 2)).toEqual(["r0#chosen", "r0#rejected"]);
    const margins = [0, 2].map((i) => predicted.rows[2 * i]!.values[0]! - predicted.rows[2 * i + 1]!.values[0]!);
    const loss = margins.reduce((sum, margin) => sum + Math.log1p(Math.exp(-margin)), 0) / 2;
    expect(metrics["eval_loss"]!).toBeCloseTo(loss, 5);
    expect(metrics["eval_margin"]!).toBeCloseTo((margins[0]! + margins[1]!) / 2, 5);
    expect(metrics["eval_pair_accuracy"]).toBe(margins.filter((margin) => margin > 0).length / 2);
    const scored = await evaluate({ run, device });
    expect(scored).toMatchObject({ samples: 2 });
    expect(scored.metrics["eval_loss"]!).toBeCloseTo(loss, 5);
    // A text by itself has the score that it has as an answer.
    const texts = join(folder.path, "texts.jsonl");
    await writeFile(texts, `${JSON.stringify({ id: "t", text: "<prompt>: Hi\n\n<response>: Hello" })}\n`);
    const [text] = (await predict({ run, files: [texts], device })).rows;
    expect(text!.values[0]!).toBeCloseTo(predicted.rows[0]!.values[0]!, 5);

    const outputDir = join(folder.path, "merged");
    await merge({ run, outputDir, rows: 0, device });
    expect(await json(outputDir, "config.json")).toMatchObject({ problem_type: null, id2label: { "0": "LABEL_0" } });
  }, 300_000);

  test("reward: a step's gradient does not depend on how its pairs are cut", async () => {
    await using folder = await temporaryFolder();
    const lines = Array.from({ length: 8 }, (_, i) =>
      JSON.stringify({ prompt: `mail ${i}`, chosen: "yes ".repeat(i + 1), rejected: "no" }),
    );
    const losses: number[] = [];
    for (const [name, training] of Object.entries({
      whole: { perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 1 },
      cut: { perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 4 },
    })) {
      const outputDir = join(folder.path, name);
      const parts = { task: "reward", training: { ...training, outputDir, loggingSteps: 1 } } as const;
      const { config } = await taskRun(folder.path, lines, parts);
      const { history } = await train(config);
      losses.push(...history.flatMap(({ loss }) => loss ?? []));
    }
    expect(losses).toHaveLength(4);
    expect(losses[0]!).toBeCloseTo(losses[2]!, 5);
    expect(losses[1]!).toBeCloseTo(losses[3]!, 4);
  }, 300_000);

  test("a head of one logit without a word of its task is a regression, said so, and its score is raw", async () => {
    await using folder = await temporaryFolder();
    const adapter = join(folder.path, "one");
    await cp(goldenPath("turn2", "parity-regression", "adapter"), adapter, { recursive: true });
    const rows = join(folder.path, "rows.jsonl");
    const { samples, logits } = (await json(goldenPath("turn2", "parity-regression", "reference.json"))) as unknown as {
      readonly samples: readonly { readonly input_ids: readonly number[]; readonly label: number }[];
      readonly logits: readonly (readonly number[])[];
    };
    await writeFile(rows, samples.map(({ input_ids, label }) => `${JSON.stringify({ input_ids, label })}\n`).join(""));
    const messages: string[] = [];
    const onEvent = (event: { readonly type: string; readonly message?: string }): void =>
      void (event.type === "warning" && messages.push(event.message!));
    const request = { run: adapter, files: [rows], baseModel: goldenPath("turn2", "tiny-qwen3-nf4"), device };
    const { columns, rows: predicted } = await predict(request, { onEvent });
    expect(columns).toEqual(["score"]);
    predicted.forEach(({ values }, i) => expect(values[0]!).toBeCloseTo(logits[i]![0]!, 3));
    expect(messages.join("\n")).toContain("its head has one logit, taken for a regression as transformers does");
    expect((await evaluate(request)).metrics["eval_mse"]!).toBeCloseTo(1.911458969116211, 4);
    expect(await failure(predict({ ...request, task: "classification" }))).toContain("has one logit");
  }, 300_000);
});
