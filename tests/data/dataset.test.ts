import { describe, expect, test } from "bun:test";
import { loadDataset, type Dataset } from "../../runtime/data/dataset.ts";
import { fingerprintDataset } from "../../runtime/data/fingerprint.ts";
import { missingLabels } from "../../runtime/data/labels.ts";
import { loadData, splitFold } from "../../runtime/data/split.ts";
import { csvRow, rejection, tempDir, tempFile } from "./files.ts";

const jsonl = (...rows: unknown[]) => tempFile("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
const texts = (count: number) =>
  loadDataset(jsonl(...Array.from({ length: count }, (_, i) => ({ text: `t${i}`, label: i % 3 }))));

describe("classification files", () => {
  test("JSONL: text or input_ids, label and id optional, blank lines skipped but counted", async () => {
    const file = tempFile(
      "rows.jsonl",
      '{"text":"a \\ud83d","label":1}\n\n{"input_ids":[2,5,1],"id":"x"}\n{"text":"b","label":null,"id":7}',
    );
    const { rows } = await loadDataset(file);
    expect(rows).toEqual([
      { kind: "text", id: "0", file, line: 1, label: 1, text: "a \ufffd" },
      { kind: "ids", id: "x", file, line: 3, label: undefined, inputIds: Uint32Array.of(2, 5, 1) },
      { kind: "text", id: "7", file, line: 4, label: undefined, text: "b" },
    ]);
  });

  test("CSV: text with newlines, or input_ids as JSON", async () => {
    const first = tempFile("a.csv", `text,label\n${csvRow("one\ntwo", "1")}\n${csvRow("true", "0")}\n`);
    const second = tempFile("b.csv", `id,input_ids,label\n${csvRow("q", "[3, 4]", "2.0")}\n`);
    const { rows } = await loadDataset([first, second]);
    expect(rows).toEqual([
      { kind: "text", id: "0", file: first, line: 2, label: 1, text: "one\ntwo" },
      { kind: "text", id: "1", file: first, line: 4, label: 0, text: "true" },
      { kind: "ids", id: "q", file: second, line: 2, label: 2, inputIds: Uint32Array.of(3, 4) },
    ]);
  });

  test.each([
    ["no JSON", "{text:1}", "expected one JSON object"],
    ["a list", "[1]", "expected one JSON object, got [1]"],
    ["neither", '{"label":1}', "neither text nor input_ids"],
    ["both", '{"text":"a","input_ids":[1]}', "both text and input_ids"],
    ["text of another type", '{"text":5}', "expected a string, got 5"],
    ["empty ids", '{"input_ids":[]}', "non-empty list"],
    ["fractional ids", '{"input_ids":[1.5]}', "input_ids"],
    [
      "label of another type",
      '{"text":"a","label":["good"]}',
      'expected a class index (0, 1, ...) or a name, got ["good"]',
    ],
    ["fractional label", '{"text":"a","label":0.5}', "got 0.5"],
    ["an id of another type", '{"text":"a","id":{}}', "id: expected a string or a number, got an object"],
    ["NaN for a text", '{"text":NaN}', "text: expected a string, got null"],
    ["nested 100,000 deep", `{"text":${"[".repeat(1e5)}${"]".repeat(1e5)}}`, "expected a string, got a list of lists"],
    [
      "a line nested 100,000 deep",
      `${"[".repeat(1e5)}${"]".repeat(1e5)}`,
      "expected one JSON object, got a list of lists",
    ],
    ["negative label", '{"text":"a","label":-1}', "got -1"],
  ])("a bad row is told with its line: %s", async (_, line, message) => {
    const file = tempFile("rows.jsonl", `{"text":"fine"}\n${line}\n`);
    expect(await rejection(loadDataset(file))).toContain(`${file}:2: `);
    expect(await rejection(loadDataset(file))).toContain(message);
  });

  test("text that is not UTF-8 is told with its line, not read with question marks", async () => {
    const latin1 = Buffer.from('text,label\n"two\nlines",0\ncaf\u00e9,1\n', "latin1");
    const file = tempFile("latin1.csv", latin1);
    expect(await rejection(loadDataset(file))).toContain(`${file}:4: the text is not UTF-8`);
    const utf16 = tempFile("rows.jsonl", Buffer.from('\ufeff{"text":"a","label":0}', "utf16le"));
    expect(await rejection(loadDataset(utf16))).toContain(`${utf16}:1: the text is not UTF-8`);
  });

  test("classes that no row has are told, labels that count from 1 among them", async () => {
    const of = async (...labels: number[]) =>
      missingLabels(
        await loadDataset(jsonl(...labels.map((label) => ({ text: "a", label })))),
        Math.max(...labels) + 1,
      );
    expect(await of(0, 1, 2)).toBeUndefined();
    expect(await of(1, 2, 3)).toBe("no training row has the label 0: 1 of the 4 classes 0 to 3");
    const arena = `prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n${csvRow('["p"]', '["a"]', '["b"]', "1", "0", "0")}\n`;
    expect(missingLabels(await loadDataset(tempFile("arena.csv", arena)), 3)).toStartWith("no training row is a tie");
    const tied = `${arena}${csvRow('["p"]', '["a"]', '["b"]', "0", "0", "1")}\n`;
    expect(missingLabels(await loadDataset(tempFile("arena.csv", tied)), 3)).toBeUndefined(); // its three classes are given
    expect(await of(0, 4e9)).toBe(
      "no training row has the label 1, 2, 3, 4, 5, ...: 3999999999 of the 4000000001 classes 0 to 4000000000",
    );
  });

  test("files that fit no format, are missing or are not there at all", async () => {
    expect(await rejection(loadDataset(tempFile("x.csv", "a,b\n1,2\n")))).toContain(
      "the columns fit no known format; found a, b",
    );
    expect(await rejection(loadDataset(`${tempDir()}/none.csv`))).toContain("no such file");
    expect(await rejection(loadDataset(tempDir()))).toContain("the folder has no files of rows");
    expect(await rejection(loadDataset([]))).toContain("no data files");
    expect(await rejection(loadDataset(jsonl({ text: "a" }), { format: "arena" }))).toContain(
      "column prompt is missing; found text",
    );
  });

  test("labels beyond numLabels", async () => {
    const file = jsonl({ text: "a", label: 2 }, { text: "b", label: 3 });
    expect(await rejection(loadDataset(file, { numLabels: 3 }))).toContain(`${file}:2: label 3 is outside 0..2`);
  });
});

describe("splits", () => {
  test("index % nSplits === foldIdx is evaluation, over all files", async () => {
    const files = [
      jsonl({ text: "0", label: 0 }, { text: "1", label: 0 }, { text: "2", label: 0 }),
      jsonl({ text: "3", label: 0 }, { text: "4", label: 0 }),
    ];
    const { train, evaluation } = await loadData({ train: files, nSplits: 3, foldIdx: 1 });
    const content = (dataset: Dataset | undefined) => dataset?.rows.map((row) => (row.kind === "text" ? row.text : ""));
    expect(content(train)).toEqual(["0", "2", "3"]);
    expect(content(evaluation)).toEqual(["1", "4"]);
  });

  test("the seed's 78,664 rows give 77,877 and 787", async () => {
    const blank = (await loadDataset(jsonl({ text: "a", label: 0 }))).rows[0]!;
    const { train, evaluation } = splitFold({ files: ["x"], rows: Array(78_664).fill(blank) }, 100, 0);
    expect([train.rows.length, evaluation.rows.length]).toEqual([77_877, 787]);
  });

  test("evaluation files, none, and contradictions", async () => {
    const file = jsonl({ text: "a", label: 0 });
    expect((await loadData({ train: file })).evaluation).toBeUndefined();
    expect((await loadData({ train: file, evaluation: [file, file] })).evaluation?.rows.length).toBe(2);
    expect(await rejection(loadData({ train: file, evaluation: file, nSplits: 5 }))).toContain("exclude each other");
    expect(await rejection(loadData({ train: file, foldIdx: 0 }))).toContain("foldIdx needs nSplits");
    const [four, one, two] = [await texts(4), await texts(1), await texts(2)];
    expect(() => splitFold(four, 1, 0)).toThrow("nSplits");
    expect(() => splitFold(four, 3, 3)).toThrow("expected 0..2, got 3");
    expect(() => splitFold(one, 3, 0)).toThrow("leaves no training rows");
    expect(() => splitFold(two, 3, 2)).toThrow("leaves no evaluation rows");
  });

  test("training rows need labels", async () => {
    const file = jsonl({ text: "a", label: 0 }, { text: "b" });
    expect(await rejection(loadData({ train: file }))).toContain(`${file}:2: the row has no label`);
  });
});

describe("fingerprint", () => {
  const of = async (...rows: unknown[]) => fingerprintDataset(await loadDataset(jsonl(...rows)));
  const [a, b] = [
    { id: "a", text: "x", label: 0 },
    { id: "b", text: "y", label: 1 },
  ];

  test("depends on content, label, id and order, and on nothing else", async () => {
    const base = await of(a, b);
    expect(await of(a, b)).toBe(base);
    const others = [
      await of(b, a),
      await of(a),
      await of({ ...a, label: 1 }, b),
      await of({ ...a, text: "z" }, b),
      await of({ ...a, id: "c" }, b),
      await of(a, b, a),
    ];
    expect(new Set([base, ...others]).size).toBe(others.length + 1);
  });

  test("text does not run over into its neighbor", async () => {
    const arena = async (prompt: string, answer: string) =>
      fingerprintDataset(
        await loadDataset(
          tempFile("a.csv", `prompt,response_a,response_b\n${csvRow(`["${prompt}"]`, `["${answer}"]`, "[]")}\n`),
        ),
      );
    expect(await arena("ab", "c")).not.toBe(await arena("a", "bc"));
    expect(await of({ input_ids: [1, 2] })).not.toBe(await of({ input_ids: [258] }));
  });
});
