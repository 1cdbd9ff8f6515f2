/** Rows are the same whatever kind of file holds them: CSV, JSON, JSONL, Parquet, archives, folders and patterns of them. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { zipSync } from "fflate";
import { parquetWriteBuffer } from "hyparquet-writer";
import type { DataError } from "../../core/errors.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { rejection, tempDir, tempFile } from "./files.ts";

const BIG = 1790000000000000123n;
const records = [
  { id: BIG, prompt: "Hi", response_a: "Hello", response_b: "Go", winner: "model_a", language: "en", votes: 3 },
  {
    id: BIG + 1n,
    prompt: 'Qué, "tal"?',
    response_a: "bien\nmal",
    response_b: "",
    winner: "model_b",
    language: "es",
    votes: 9007199254740993n,
  },
] as const;
type Record = (typeof records)[number];

const names = Object.keys(records[0]) as (keyof Record)[];
const csv = [
  names.join(","),
  ...records.map((row) => names.map((name) => `"${String(row[name]).replaceAll('"', '""')}"`).join(",")),
].join("\n");
const json = (row: object): string =>
  JSON.stringify(row, (_, value: unknown) => (typeof value === "bigint" ? `@${value}@` : value)).replaceAll(
    /"@(\d+)@"/g,
    "$1",
  );
const jsonl = records.map((row) => `${json(row)}\n`).join("");
const list = `[\n  ${records.map((row) => json(row).replace(',"prompt"', ',\n   "prompt"')).join(",\n  ")}\n]\n`;

/** Columns of rows, as hyparquet-writer takes them. */
const columnData = (rows: readonly Record[]) =>
  names.map((name) => {
    const type = name === "id" || name === "votes" ? ("INT64" as const) : ("STRING" as const);
    return { name, type, data: rows.map((row) => (type === "INT64" ? BigInt(row[name]) : row[name])) };
  });
const parquet = (rows: readonly Record[] = records, options: object = {}): Uint8Array =>
  new Uint8Array(parquetWriteBuffer({ columnData: columnData(rows), ...options }));

/** What every kind of file must give. */
const want = (votes: readonly unknown[]) => [
  {
    kind: "arena",
    id: "1790000000000000123",
    label: 0,
    prompt: "Hi",
    responseA: "Hello",
    responseB: "Go",
    extra: { language: "en", votes: votes[0] },
  },
  {
    kind: "arena",
    id: "1790000000000000124",
    label: 1,
    prompt: 'Qué, "tal"?',
    responseA: "bien\nmal",
    responseB: "",
    extra: { language: "es", votes: votes[1] },
  },
];
const exact = [3, 9007199254740993n];
const text = ["3", "9007199254740993"];

async function rowsOf(file: string | readonly string[]): Promise<unknown[]> {
  return (await loadDataset(file)).rows.map((row) => ({ ...row, file: undefined, line: undefined }));
}

describe("one table in many files", () => {
  test.each([
    ["rows.csv", csv, text],
    ["rows.jsonl", jsonl, exact],
    ["rows.json", list, exact],
    ["rows.parquet", parquet(), exact],
    ["no ending", parquet(), exact],
    ["rows.csv.gz", gzipSync(csv), text],
    ["rows.jsonl.gz", gzipSync(jsonl), exact],
    ["rows.json.gz", gzipSync(list), exact],
    ["rows.parquet.gz", gzipSync(parquet()), exact],
    ["csv.zip", zipSync({ "train.csv": Buffer.from(csv), "readme.md": Buffer.from("#") }), text],
    [
      "jsonl.zip",
      zipSync({ "a/train.jsonl": Buffer.from(jsonl), "__MACOSX/a/._train.jsonl": Buffer.from("x") }),
      exact,
    ],
    ["parquet.zip", zipSync({ "train.parquet": parquet() }), exact],
    ["inner.zip", zipSync({ "train.csv.gz": gzipSync(csv) }), text],
  ])("%s", async (name, content, votes) => {
    expect(await rowsOf(tempFile(name, content))).toEqual(want(votes));
  });

  test("lines are those of the file: of JSON lists where the object starts, of Parquet the row's number", async () => {
    const lines = async (file: string): Promise<number[]> => (await loadDataset(file)).rows.map(({ line }) => line);
    expect(await lines(tempFile("rows.json", list))).toEqual([2, 4]);
    expect(await lines(tempFile("rows.parquet", parquet()))).toEqual([1, 2]);
    expect(await lines(tempFile("rows.csv.gz", gzipSync(csv)))).toEqual([2, 3]);
  });

  test("Parquet in many row groups and every codec that is read", async () => {
    const many = Array.from({ length: 25 }, (_, i) => ({ ...records[i % 2]!, id: BIG + BigInt(i) }));
    const file = tempFile("groups.parquet", parquet(many as unknown as Record[], { rowGroupSize: 10 }));
    const { rows } = await loadDataset(file);
    expect(rows.map(({ id, line }) => [id, line])).toEqual(many.map(({ id }, i) => [String(id), i + 1]));
    const compressors = { GZIP: gzipSync, BROTLI: brotliCompressSync, ZSTD: zstdCompressSync };
    for (const codec of ["UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "ZSTD"])
      expect(await rowsOf(tempFile(`${codec}.parquet`, parquet(records, { codec, compressors }))), codec).toEqual(
        want(exact),
      );
  });

  test("a folder of shards, a pattern, and several files, in the order of their names", async () => {
    const folder = tempDir();
    const shard = (name: string, row: number): void => writeFileSync(join(folder, name), parquet([records[row]!]));
    shard("train-00001-of-00002.parquet", 1);
    shard("train-00000-of-00002.parquet", 0);
    writeFileSync(join(folder, "README.md"), "# rows");
    expect(await rowsOf(folder)).toEqual(want(exact));
    expect(await rowsOf(join(folder, "train-*.parquet"))).toEqual(want(exact));
    expect(await rowsOf([join(folder, "*-00000-*"), join(folder, "train-00001-of-00002.parquet")])).toEqual(
      want(exact),
    );
    shard("test-00000-of-00001.parquet", 0);
    expect(await rejection(loadDataset(folder))).toContain(
      "the folder has files of several splits: test (test-00000-of-00001.parquet); train (train-00000-of-00002.parquet, train-00001-of-00002.parquet)",
    );
    expect(await rejection(loadDataset(join(folder, "dev-*")))).toContain("no file matches the pattern");
    mkdirSync(join(folder, "empty"));
    expect(await rejection(loadDataset(join(folder, "empty")))).toContain("the folder has no files of rows");
  });

  test("an archive of several files needs a name", async () => {
    const zip = tempFile(
      "kaggle.zip",
      zipSync({ "train.csv": Buffer.from(csv), "test.csv": Buffer.from("prompt,response_a,response_b\n") }),
    );
    expect(await rejection(loadDataset(zip))).toContain(`${zip}: the archive has 2 files of rows: train.csv, test.csv`);
    expect(await rowsOf(`${zip}#train.csv`)).toEqual(want(text));
    expect((await loadDataset(`${zip}#train.csv`)).rows[0]!.file).toBe(`${zip}#train.csv`);
    expect(await rejection(loadDataset(`${zip}#dev.csv`))).toContain(
      'the archive has no file "dev.csv"; found train.csv, test.csv',
    );
  });
});

describe("what is wrong is told with its file and line", () => {
  const error = (file: string): Promise<DataError> =>
    loadDataset(file).then(
      () => {
        throw new Error("no error");
      },
      (refused: DataError) => refused,
    );
  test.each([
    [
      "a list that is cut off",
      "rows.json",
      '[{"text":"a"},\n{"text":"b"}',
      "DATA_JSON_MALFORMED",
      ":2: the list is not closed",
    ],
    [
      "a list within a string",
      "rows.json",
      '[{"text":"a"},\n{"text":"b]',
      "DATA_JSON_MALFORMED",
      ": the list is not closed",
    ],
    [
      "something after the list",
      "rows.json",
      '[{"text":"a"}]\n{"text":"b"}',
      "DATA_JSON_MALFORMED",
      'expected nothing after the list, got "{',
    ],
    [
      "an item that is no object",
      "rows.json",
      '[{"text":"a"},\n3]',
      "DATA_CELL_INVALID",
      ":2: expected one JSON object, got 3",
    ],
    [
      "a missing item",
      "rows.json",
      '[{"text":"a"},\n,{"text":"b"}]',
      "DATA_CELL_INVALID",
      ":2: expected one JSON object",
    ],
    [
      "Parquet that is cut off",
      "rows.parquet",
      parquet().subarray(0, 100),
      "DATA_PARQUET_INVALID",
      ": the Parquet file is cut off",
    ],
    [
      "damaged Parquet",
      "rows.parquet",
      Buffer.from("PAR1\x15\x04\x15\xff\x80PAR1", "latin1"),
      "DATA_PARQUET_INVALID",
      ": the Parquet file cannot be read",
    ],
    [
      "damaged gzip",
      "rows.csv.gz",
      gzipSync(csv).subarray(0, 60),
      "DATA_ARCHIVE_DAMAGED",
      "the gzip archive cannot be unpacked",
    ],
    [
      "damaged zip",
      "rows.zip",
      zipSync({ "a.csv": Buffer.from(csv) }).subarray(0, 60),
      "DATA_ARCHIVE_DAMAGED",
      "the zip archive cannot be unpacked",
    ],
    [
      "a workbook",
      "rows.xlsx",
      zipSync({ "[Content_Types].xml": Buffer.from(""), "xl/workbook.xml": Buffer.from("") }),
      "DATA_FILE_KIND",
      "is an Excel workbook",
    ],
    [
      "a zip without rows",
      "rows.zip",
      zipSync({ "a.md": Buffer.from("") }),
      "DATA_ARCHIVE_MEMBERS",
      "no file of rows (CSV, JSON, JSONL, Parquet); found a.md",
    ],
    ["other text in gzip", "rows.csv.gz", gzipSync("PAR1 cut"), "DATA_FORMAT_UNKNOWN", "found PAR1 cut"],
  ])("%s", async (_, name, content, code, message) => {
    const refused = await error(tempFile(name, content));
    expect(refused.code).toBe(code);
    expect(refused.message).toContain(message);
  });

  test("a list of no rows is empty", async () => {
    expect(await rejection(loadDataset(tempFile("rows.json", " [ ] ")))).toContain("the data has no rows");
  });
});
