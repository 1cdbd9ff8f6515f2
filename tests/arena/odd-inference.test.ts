/** What eval and predict tell where the adapter, its classes or the rows are not what they look like. */
import { describe, expect, test } from "bun:test";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import { demoCsv } from "../../demo/generate.ts";
import { bothEmpty, evaluate, predict, type RunEvent, train } from "../../index.ts";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { withOutOfFold } from "../../sdk/out-of-fold.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const device = { tier: "f32" } as const;

/** A run of one step on texts of two classes, three of which are held out. */
async function textRun(folder: string): Promise<string> {
  const file = join(folder, "texts.jsonl");
  const rows = Array.from({ length: 6 }, (_, i) => JSON.stringify({ text: `text ${i}`, label: i % 2 }));
  await writeFile(file, rows.join("\n"));
  const training = { maxSteps: 1, saveStrategy: "steps", saveSteps: 1 } as const;
  const { outputDir } = await train(
    await smallRun(folder, { device, training, data: { trainFiles: [file], nSplits: 2 } }),
  );
  return outputDir;
}

/** Writes NaN into the adapter's score head. */
async function breakHead(path: string): Promise<void> {
  const tensors: [string, TensorToWrite][] = [];
  {
    await using file = await openSafetensors(path);
    for (const [name, { dtype, shape }] of file.tensors) {
      const data = await file.read(name);
      tensors.push([name, { dtype, shape, data: name.includes("score") ? data.fill(0xff) : data }]);
    }
  }
  await writeSafetensors(path, tensors, { format: "pt" });
}

describe.skipIf(tiers.length === 0)("a run on texts of two classes", () => {
  test("tells what does not fit it, and names what it takes", async () => {
    await using folder = await temporaryFolder();
    const run = await textRun(folder.path);
    const arena = join(folder.path, "arena.csv");
    await writeFile(arena, demoCsv(2, 3));
    const events: RunEvent[] = [];
    const onEvent = (event: RunEvent): unknown => events.push(event);
    const messages = (type: "info" | "warning"): string[] =>
      events.flatMap((event) => (event.type === type ? [event.message] : []));

    // Two probabilities stand under two names, though the rows are the arena's.
    const table = await predict({ run, files: [arena], device }, { onEvent });
    expect(table.columns).toEqual(["label_0", "label_1"]);
    expect(table.rows.map(({ values }) => values.length)).toEqual([2, 2]);
    expect(messages("warning")).toEqual([]);
    expect(messages("info").join()).not.toContain("newest checkpoint");
    const short = { run, files: [arena], device: { memoryBudget: "1MiB" } };
    const classes = "needs a model of three classes (A wins, B wins, tie), this one has 2";
    const winners = "needs a model of an arena's classes (A wins, B wins, perhaps tie), this one has 2";
    expect(await failure(predict({ ...short, tta: "swap" }))).toBe(`ModelError: ${run}: tta swap ${winners}`);
    expect(await failure(evaluate({ ...short, tta: "swap" }))).toBe(`ModelError: ${run}: tta swap ${winners}`);
    expect(await failure(predict({ ...short, submission: true }))).toBe(`ModelError: ${run}: a submission ${winners}`);
    const postProcess = [bothEmpty([0.1, 0.1, 0.8])];
    expect(await failure(predict({ ...short, postProcess }))).toBe(`ModelError: ${run}: both-empty ${classes}`);
    expect(await failure(predict({ run, postProcess, device }))).toContain(
      ":1: both-empty needs arena rows, this one is",
    );

    // Options of the run's own rows do not choose among those of files.
    expect(await failure(predict({ run, files: [arena], data: { nSplits: 3, foldIdx: 1 } }))).toBe(
      "ConfigError: 2 problems:\n  - data.nSplits: got 3 with files, whose rows are all taken\n" +
        "  - data.foldIdx: got 1 with files, whose rows are all taken",
    );

    // A run that was cut off has its checkpoint's adapter.
    const checkpoint = join(run, "checkpoint-1");
    const [config, weights] = ["adapter_config.json", "adapter_model.safetensors"];
    for (const name of [config, weights, "manifest.json"]) await rm(join(run, name));
    await evaluate({ run, device }, { onEvent });
    expect(messages("info")).toContain(
      `${run} holds no finished adapter: that of its newest checkpoint is taken, ${checkpoint}`,
    );

    // One whose numbers broke has none worth reading.
    const broken = join(folder.path, "broken");
    await mkdir(broken);
    for (const name of [config, weights]) await cp(join(checkpoint, name), join(broken, name));
    await breakHead(join(broken, weights));
    const request = { run: broken, device, files: [join(folder.path, "texts.jsonl")] };
    expect(await failure(evaluate(request))).toContain(
      `${broken}: tensor "base_model.model.score.weight": element 0 is NaN or infinite, expected a finite number`,
    );
    const { metrics } = await evaluate({ ...request, allowNonFinite: true }, { onEvent });
    expect(metrics["eval_loss"]).toBeNaN();
    expect(messages("warning").at(-1)).toMatch(/^6 of 6 rows have logits that are not finite, the first is .*:1; /);
  }, 120_000);
});

test("ids that stand twice among held-out rows do not go into the file", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "oof.csv");
  const rows = ["1", "2", "1"].map((id) => ({ id, values: [0.5, 0.5] }));
  expect(() => withOutOfFold(file, { columns: ["label_0", "label_1"], rows })).toThrow(
    `${file}: id "1" stands twice among the rows held out, but files are joined by id`,
  );
  expect(withOutOfFold(file, { columns: ["label_0", "label_1"], rows: rows.slice(0, 2) }).rows).toHaveLength(2);
});
