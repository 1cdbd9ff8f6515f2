/** Classes with names, and arenas without ties, from the data through training to what is written. */
import { describe, expect, test } from "bun:test";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parsePythonJson } from "../../core/formats/python-json.ts";
import { ensemble, evaluate, predict, train } from "../../index.ts";
import { formatProbabilities, formatSubmission } from "../../sdk/probabilities.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const device = { tier: "f32" } as const;

describe.skipIf(tiers.length === 0)("classes", () => {
  test("names are kept: run.json, the adapter, evaluation.json, predictions, an ensemble's labels", async () => {
    await using folder = await temporaryFolder();
    const write = async (name: string, lines: readonly string[]): Promise<string> => {
      const path = join(folder.path, name);
      await writeFile(path, `${lines.join("\n")}\n`);
      return path;
    };
    const labels = ["spam", "ham", "unsure", "ham", "spam", "ham"];
    const rows = labels.map((label, i) => `{"id":"r${i}","text":"mail ${i}","label":"${label}"}`);
    const file = await write("rows.jsonl", rows);
    const config = await smallRun(folder.path, {
      device,
      training: { maxSteps: 1, evalStrategy: "steps", evalSteps: 1 },
      data: { trainFiles: [file], nSplits: 2 },
    });
    const { outputDir: run } = await train(config);
    const json = async (path: string) => parsePythonJson(await readFile(path, "utf8")) as Record<string, unknown>;
    const names = ["ham", "spam", "unsure"];
    const id2label = { "0": "ham", "1": "spam", "2": "unsure" };
    expect((await json(join(run, "run.json")))["data"]).toMatchObject({ numLabels: 3, id2label });
    expect(await json(join(run, "qlora.json"))).toMatchObject({ id2label });
    expect(await json(join(run, "evaluation.json"))).toMatchObject({ labelNames: names, labels: [1, 2, 1] });

    const predicted = await predict({ run, files: [file], device });
    expect(predicted.columns).toEqual(names);
    // Evaluation reads labels by their names, though the file has but two of the three, in another order.
    const few = await write("few.csv", ["text,label", "mail 2,unsure", "mail 0,spam"]);
    const scored = await evaluate({ run, files: [few], device });
    const loss = -(Math.log(predicted.rows[2]!.values[2]!) + Math.log(predicted.rows[0]!.values[1]!)) / 2;
    expect(scored.metrics["eval_loss"]!).toBeCloseTo(loss, 5);
    const strange = evaluate({ run, files: [await write("strange.csv", ["text,label", "a,eggs"])], device });
    expect(await strange.catch((error: unknown) => (error as Error).message)).toContain(
      'strange.csv:2: got label "eggs", expected one of "ham", "spam", "unsure"',
    );
    // Blank, soft and unknown labels are no matter to predict.
    const odd = await write("odd.csv", ["id,text,label", "r0,mail 0,", "r1,mail 1,0.25", "r2,mail 2,eggs"]);
    expect((await predict({ run, files: [odd], device })).rows).toEqual(predicted.rows.slice(0, 3));

    const table = await write("p.csv", [formatProbabilities(predicted).trim()]);
    const truth = await write("truth.csv", ["id,label", ...labels.map((label, i) => `r${i},${label}`)]);
    const likely = labels.map((label, i) => -Math.log(predicted.rows[i]!.values[names.indexOf(label)]!));
    const { fit } = await ensemble({ files: [table], fit: truth });
    expect(fit!.files[0]!).toBeCloseTo(likely.reduce((sum, value) => sum + value, 0) / 6, 6);

    const moved = join(folder.path, "moved");
    await cp(run, moved, { recursive: true });
    await rm(join(moved, "run.json"));
    const elsewhere = await predict({
      run: moved,
      files: [file],
      baseModel: tinyCheckpoint,
      device,
      data: { maxLength: 64 },
    });
    expect(elsewhere.columns).toEqual(names);
    expect(elsewhere.rows).toEqual(predicted.rows);
  }, 300_000);

  test("an arena without ties trains two classes, and predicts two; a submission says who wins", async () => {
    await using folder = await temporaryFolder();
    const file = join(folder.path, "wsdm.csv");
    const rows = ["Hi,Hello,Go away,model_a", "Bye,x,See you,model_b", "Two,2,Four,model_a", "A,b,a,model_b"];
    await writeFile(file, ["prompt,response_a,response_b,winner", ...rows, ""].join("\n"));
    const training = { maxSteps: 1 };
    const warnings: string[] = [];
    const config = await smallRun(folder.path, { device, training, data: { trainFiles: [file], nSplits: 2 } });
    const onEvent = (event: { readonly type: string; readonly message?: string }): void => {
      if (event.type === "warning") warnings.push(event.message!);
    };
    const { outputDir: run } = await train(config, { onEvent });
    expect(warnings).toEqual([]);
    expect(JSON.parse(await readFile(join(run, "run.json"), "utf8")).data).toMatchObject({
      numLabels: 2,
      id2label: { "0": "winner_model_a", "1": "winner_model_b" },
    });
    const request = { run, files: [file], device };
    const plain = await predict(request);
    expect(plain.columns).toEqual(["winner_model_a", "winner_model_b"]);
    const swapped = await predict({ ...request, tta: "swap" });
    swapped.rows.forEach(({ values: [a, b] }) => expect(a! + b!).toBeCloseTo(1, 6));
    const { metrics } = await evaluate(request);
    const losses = plain.rows.map(({ values }, i) => -Math.log(values[[0, 1, 0, 1][i]!]!));
    expect(metrics["eval_loss"]!).toBeCloseTo(losses.reduce((sum, value) => sum + value, 0) / 4, 5);
    const submission = formatSubmission(await predict({ ...request, submission: true }));
    const winners = plain.rows.map(({ id, values: [a, b] }) => `${id},${a! >= b! ? "model_a" : "model_b"}\n`);
    expect(submission).toBe(`id,winner\n${winners.join("")}`);
  }, 300_000);
});
