/** A data format of somebody else's is one file and one entry of `dataFormats`; everything else follows from it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openDatasetTokenizer } from "../../runtime/data/dataset-tokenizer.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { expectRun } from "../support/packed.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";
import { tempFile } from "./files.ts";

const root = join(import.meta.dir, "../..");
const FOLDERS = ["core", "kernels", "plugins", "runtime", "sdk", "web", "tests/support"];
const FILES = ["index.ts", "package.json", "wgsl.d.ts"];
const LIST = "[arena, classification] as const";

const duels = [
  { question: "Who is it?", left: "Nobody at all", right: "Somebody", better: "right" },
  { question: "Why?", left: "Because", right: "No", better: "left" },
  { question: "When was that, and where?", left: "Now", right: "Then and there", better: "right" },
  { question: "What?", left: "", right: "This", better: "left" },
];
const jsonl = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let found: Record<string, unknown>;

beforeAll(async () => {
  folder = await temporaryFolder();
  const at = (name: string): string => join(folder.path, name);
  for (const name of FOLDERS) cpSync(join(root, name), at(name), { recursive: true });
  for (const name of FILES) cpSync(join(root, name), at(name));
  for (const name of ["node_modules", "assets"]) symlinkSync(join(root, name), at(name));
  mkdirSync(at("tests/data/fixtures"), { recursive: true });
  cpSync(join(import.meta.dir, "fixtures/duel-run.ts"), at("tests/data/fixtures/duel-run.ts"));

  // The format: its file, and its entry in the list.
  cpSync(join(import.meta.dir, "fixtures/duel.ts"), at("runtime/data/formats/duel.ts"));
  const list = readFileSync(at("runtime/data/formats/index.ts"), "utf8");
  expect(list).toContain(LIST);
  const entry = list.replace(LIST, "[arena, duel, classification] as const");
  writeFileSync(at("runtime/data/formats/index.ts"), `import { duel } from "./duel.ts";\n${entry}`);

  mkdirSync(at("work"));
  writeFileSync(at("work/duels.jsonl"), jsonl(duels));
  writeFileSync(at("work/texts.jsonl"), jsonl([{ text: "a" }]));
  writeFileSync(at("work/arena.csv"), "id,prompt,response_a,response_b\n1,p,a,b\n");
  writeFileSync(at("work/labels.csv"), "id,better\n7,right\n8,left\n");
  found = JSON.parse(await expectRun(folder.path, [process.execPath, "tests/data/fixtures/duel-run.ts", at("work")]));
}, 120_000);
afterAll(() => folder[Symbol.asyncDispose]());

test("its rows are recognized and read, and its labels alone", async () => {
  expect(found["rows"]).toEqual([1, 0, 1, 0].map((label) => ["duel", label]));
  expect(found["labels"]).toEqual([
    ["7", 1],
    ["8", 0],
  ]);
});

test("its rows are tokenized by its own template", async () => {
  const text = "Question: Who is it?\nLeft: Nobody at all\nRight: Somebody";
  const tokenizer = openDatasetTokenizer({ dir: tinyCheckpoint, cache: false });
  const tokens = await tokenizer.tokenize(await loadDataset(tempFile("text.jsonl", jsonl([{ text }]))));
  expect((found["ids"] as number[][])[0]).toEqual([...(await tokens.get(0))]);
  await tokenizer.close();
});

test("a run trains on them swapped too, cuts each field, and evaluates by the names of its classes", async () => {
  expect(found["run"]).toMatchObject({ trainRows: 4, evalRows: 2, numLabels: 2 });
  expect(found["evaluation"]).toMatchObject({
    labelNames: ["left is better", "right is better"],
    labels: [1, 1],
    lengths: [12, 12],
  });
  expect(found["report"]).toBe(true);
});

test("predictions have its columns, and test-time augmentation works on its rows", async () => {
  expect(found["predicted"]).toEqual({ columns: ["left", "right"], first: { id: "0", values: [0.5, 0.5] } });
  expect(found["evaluated"]).toBe(4);
});

test("the option format, its help and the errors know it", async () => {
  expect(found["unknown"]).toBe('format: got "duell", expected "auto", "arena", "duel" or "classification"');
  expect(found["help"]).toContain("; duel: question, left, right, and better; ");
  expect(found["mixed"]).toBe("duels.jsonl: got duel rows after arena rows, whose classes are others");
  expect(found["unfit"]).toBe("texts.jsonl:1: tta swap needs arena or duel rows, this one is text");
});
