import { describe, expect, test } from "bun:test";
import { parse } from "csv-parse/sync";
import { scanCsv } from "../../runtime/data/csv-scan.ts";
import { openCsv } from "../../runtime/data/csv.ts";
import { random, runSeed } from "../support/gpu.ts";
import { tempFile } from "./files.ts";

const scan = (text: string): string[][] | undefined => {
  const found = scanCsv(Buffer.from(text));
  return found && Array.from({ length: found.records }, (_, record) => found.read(record));
};
const parsed = (text: string): string[][] =>
  parse(text, { skip_empty_lines: true, record_delimiter: ["\r\n", "\n", "\r"] });

const readRows = (text: string): object[] =>
  openCsv(tempFile("rows.csv", text)).map((cells, line) => ({ cells, line }));

describe("cells found by quotes, newlines and commas", () => {
  const forms: readonly (readonly [string, string])[] = [
    ["plain", "a,b\n1,2\n3,4\n"],
    ["no newline at the end", "a,b\n1,2"],
    ["CRLF", 'a,b\r\n"1\r\n1",2\r\n'],
    ["blank lines", "\n\na,b\n\n1,2\n\n\n"],
    ["blank lines of CRLF", "a,b\r\n\r\n1,2\r\n\r\n"],
    ["empty cells", 'a,b,c\n,,\n"",,""\n1,,'],
    ["quotes, commas and newlines inside", 'a,b\n"x, ""y""\nz","[""p"", ""q""]"\n'],
    ["only quotes", 'a\n""""\n""""""\n'],
    ["one column", "a\n1\n2"],
    ["all of Unicode", 'a,b\n"é — 日本 😀",ß\n'],
    ["lines that end in every way", "a,b\n1,2\r\n3,4\r5,6"],
    ["lines that end in two ways, CRLF first", "a,b\r\n1,2\n3,4\r\n"],
    ["lone carriage returns", "a,b\r1,2\r"],
    ["returns doubled by text mode", "a,b\r\r\n1,2\r\r\n"],
    ["quoted line ends stay", 'a,b\r\n"1\r","2\n\r\n"\r"\r\n",\n'],
    ["a quoted header", '"a ""1""","b\n2"\n1,2'],
  ];
  test.each(forms)("%s, as csv-parse reads it", (_, text) => {
    expect(scan(text)!).toEqual(parsed(text));
  });

  const odd: readonly (readonly [string, string])[] = [
    ["a record too short", "a,b\n1\n"],
    ["a record too long", "a,b\n1,2,3\n"],
    ["a quote in an unquoted cell", 'a,b\n1,2"\n'],
    ["text after a closing quote", 'a,b\n"1"x,2\n'],
    ["a quote that is never closed", 'a,b\n1,"2\n'],
    ["nothing", ""],
    ["blank lines alone", "\n\n"],
  ];
  test.each(odd)("%s is left to the parser", (_, text) => {
    expect(scan(text)).toBeUndefined();
  });

  test(`random files: what csv-parse reads, or nothing (seed ${runSeed})`, () => {
    const next = random(runSeed);
    const pieces = ['"', '""', ",", "\n", "\r\n", "\r", "a", "é", " ", "1", '"x"', '"",""', ""];
    let understood = 0;
    for (let round = 0; round < 4000; round++) {
      const text = Array.from({ length: 1 + next() * 14 }, () => pieces[Math.floor(next() * pieces.length)]).join("");
      const got = scan(text);
      if (got === undefined) continue;
      understood++;
      expect({ text, cells: got }).toEqual({ text, cells: parsed(text) });
    }
    expect(understood).toBeGreaterThan(200);
  });

  test(`random well-formed files are always understood, with their lines (seed ${runSeed})`, () => {
    const next = random(runSeed + 1);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
    for (let round = 0; round < 300; round++) {
      // Every line ends in its own way; inside quotes they stay what they are.
      const newline = (): string => pick(["\n", "\r\n", "\r", "\r\r\n"]);
      const columns = 2 + Math.floor(next() * 3);
      const want: { readonly cells: string[]; readonly line: number }[] = [];
      let text = "";
      for (let record = 0; record < 6; record++) {
        if (next() < 0.2) text += newline();
        const line = text.split(/\r\n|\n|\r/).length;
        const cells = Array.from({ length: columns }, (_, column) =>
          record === 0 ? `column ${column}` : pick(["", "x", 'say ""', 'a "b", c', `two${newline()}lines`, "é", "{}"]),
        );
        const quoted = cells.map((cell) =>
          /[",\r\n]/.test(cell) || next() < 0.3 ? `"${cell.replaceAll('"', '""')}"` : cell,
        );
        if (record > 0) want.push({ cells, line });
        text += quoted.join(",") + newline();
      }
      expect(scan(text), text).toBeDefined();
      expect(readRows(text)).toEqual(want);
      // A last record that is too short leaves the rest to csv-parse: it must tell the same rows before it blames that one.
      const seen: unknown[] = [];
      const lines = text.split(/\r\n|\n|\r/).length;
      const broken = openCsv(tempFile("broken.csv", `${text}short`));
      expect(() => broken.map((cells, line) => seen.push({ cells, line }))).toThrow(`broken.csv:${lines}: `);
      expect(seen).toEqual(want);
    }
  });
});

describe("where records end", () => {
  const cells = (text: string): string[][] => openCsv(tempFile("ends.csv", text)).map((row) => [...row]);

  test("mixed line ends make no merged rows, and no return stays in a last column", () => {
    expect(cells("text\r\nhello\r\nworld\nfoo\r\nbar\r\n")).toEqual([["hello"], ["world"], ["foo"], ["bar"]]);
    expect(cells("label,text\n0,hello\n1,world\r\n")).toEqual([
      ["0", "hello"],
      ["1", "world"],
    ]);
    expect(cells("a,b\r1,2\r\r\n\n3,4\r")).toEqual([
      ["1", "2"],
      ["3", "4"],
    ]);
  });

  test("lines are counted as an editor counts them", () => {
    expect(readRows('a,b\r"1\r\n2",3\r\n\r\n4,5\n6,7')).toEqual([
      { cells: ["1\r\n2", "3"], line: 2 },
      { cells: ["4", "5"], line: 5 },
      { cells: ["6", "7"], line: 6 },
    ]);
  });

  test("100,000 columns are read in time that grows with them", () => {
    const line = (cell: (i: number) => unknown): string => Array.from({ length: 100_000 }, (_, i) => cell(i)).join(",");
    const start = process.cpuUsage();
    const csv = openCsv(tempFile("wide.csv", `${line((i) => `c${i}`)}\n${line((i) => i)}\n`));
    expect(csv.map((row) => row[csv.column("c99999")!])).toEqual(["99999"]);
    expect(() => openCsv(tempFile("twice.csv", `${line((i) => `c${i % 99_999}`)}\n`))).toThrow(
      'column "c0" stands twice',
    );
    // It was 19 s when every name was looked for among all others.
    expect(process.cpuUsage(start).user / 1e6).toBeLessThan(4);
  });
});
