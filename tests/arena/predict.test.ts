import { describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bothEmpty, evaluate, identicalAnswers, predict, train } from "../../index.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe.skipIf(tiers.length === 0)("predict", () => {
  test("tta swap is the mean of a file and its exchanged copy; fixed probabilities; a submission wants arena rows", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const config = await smallRun(folder.path, { device, training: { maxSteps: 1 } });
    const { outputDir: run } = await train(config);
    const lines = (await readFile(config.data.trainFiles[0]!, "utf8")).split("\n");
    const [file, other, text] = ["few.csv", "exchanged.csv", "text.jsonl"].map((name) => join(folder.path, name));
    await writeFile(file!, lines.slice(0, 7).join("\n"));
    const header = lines[0]!.replace("response_a,response_b", "response_b,response_a");
    expect(header).not.toBe(lines[0]!);
    await writeFile(other!, [header, ...lines.slice(1, 7)].join("\n"));
    await writeFile(text!, '{"text":"a"}\n');

    const averaged = await predict({ run, files: [file!], device, tta: "swap", submission: true });
    const plain = await predict({ run, files: [file!], device });
    const exchanged = await predict({ run, files: [other!], device });
    expect(averaged.rows.map(({ id }) => id)).toEqual(plain.rows.map(({ id }) => id));
    averaged.rows.forEach(({ values }, i) => {
      const [b, a, tie] = exchanged.rows[i]!.values;
      const [p, q, r] = plain.rows[i]!.values;
      for (const [c, mean] of [(p! + a!) / 2, (q! + b!) / 2, (r! + tie!) / 2].entries())
        expect(values[c]!).toBeCloseTo(mean, 6);
    });
    expect(averaged.rows[0]!.values[0]!).not.toBeCloseTo(plain.rows[0]!.values[0]!, 6);

    // Scoring the averages is the same by hand: -log of the label's probability, and whether it is the largest.
    const scored = await evaluate({ run, files: [file!], device, tta: "swap" });
    const labels = lines.slice(1, 7).map((line) => ["1,0,0", "0,1,0", "0,0,1"].indexOf(line.trim().slice(-5)));
    expect(labels).not.toContain(-1);
    const losses = averaged.rows.map(({ values }, i) => -Math.log(values[labels[i]!]!));
    expect(scored.metrics["eval_loss"]!).toBeCloseTo(losses.reduce((sum, loss) => sum + loss, 0) / 6, 6);
    expect(scored.metrics["eval_log_loss"]!).toBeCloseTo(scored.metrics["eval_loss"]!, 6);
    const right = averaged.rows.filter(({ values }, i) => values[labels[i]!]! === Math.max(...values)).length;
    expect(scored.metrics["eval_accuracy"]!).toBe(right / 6);
    const unaveraged = await evaluate({ run, files: [file!], device });
    expect(unaveraged.metrics["eval_loss"]!).not.toBeCloseTo(scored.metrics["eval_loss"]!, 6);

    // A class that the model does not have is told with its line, before anything is loaded.
    const strange = join(folder.path, "strange.jsonl");
    await writeFile(strange, '{"text":"a","label":2}\n{"text":"b","label":3}\n');
    const unknown = evaluate({ run, files: [strange], device: { memoryBudget: "1MiB" } });
    expect(await unknown.catch((error: unknown) => error)).toMatchObject({
      code: "DATA_LABEL_UNKNOWN",
      message: `${strange}:2: got label 3, expected 0 to 2, the model's classes`,
    });

    // Two rows whose answers decide, after a row whose answers do not.
    const fixed = join(folder.path, "fixed.csv");
    const cells = (id: string, answers: string): string => `${id},"[""p""]",${answers}`;
    const rows = [
      cells("none", "[null],[]"),
      cells("same", '"[""x""]","[""x""]"'),
      cells("free", '"[""x""]","[""y""]"'),
    ];
    await writeFile(fixed, ["id,prompt,response_a,response_b", ...rows].join("\n"));
    const messages: string[] = [];
    const steps = [bothEmpty([0.04, 0.88, 0.08]), identicalAnswers([0.06, 0.06, 0.88])];
    const processed = await predict(
      { run, files: [fixed], device, postProcess: steps },
      { onEvent: (event) => event.type === "info" && messages.push(event.message) },
    );
    expect(processed.rows.slice(0, 2).map(({ values }) => values)).toEqual([
      [0.04, 0.88, 0.08],
      [0.06, 0.06, 0.88],
    ]);
    expect(processed.rows[2]!.values).toEqual((await predict({ run, files: [fixed], device })).rows[2]!.values);
    expect(messages).toContain("post-process both-empty: changed 1 of 3 rows");
    expect(messages).toContain("post-process identical: changed 1 of 3 rows");
    const raw = await predict({ run, files: [fixed], device, postProcess: steps, logits: true }).catch(
      (e: unknown) => e,
    );
    expect((raw as Error).message).toContain("logits: got it together with tta, submission or postProcess");

    const refused = await predict({ run, files: [text!], device, submission: true }).catch((e: unknown) => e as Error);
    expect((refused as Error).message).toContain(`${text}:1: a submission needs arena rows, this one is text`);
  }, 120_000);
});
