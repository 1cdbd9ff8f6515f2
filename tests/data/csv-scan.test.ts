import { describe, expect, test } from "bun:test";
import { parse } from "csv-parse/sync";
import { openCsv } from "../../core/data/csv.ts";
import { scanCsv } from "../../core/data/csv-scan.ts";
import { random, runSeed } from "../support/gpu.ts";
import { tempFile } from "./files.ts";

const scan = (text: string): string[][] | undefined => {
  const found = scanCsv(Buffer.from(text));
  return found && Array.from({ length: found.records }, (_, record) => found.read(record));
};
const parsed = (text: string): string[][] => parse(text, { skip_empty_lines: true });

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
    ["lines that end in two ways", "a,b\n1,2\r\n3,4\n"],
    ["lines that end in two ways, CRLF first", "a,b\r\n1,2\n3,4\r\n"],
    ["lone carriage returns", "a,b\r1,2\r"],
    ["nothing", ""],
    ["blank lines alone", "\n\n"],
  ];
  test.each(odd)("%s is left to the parser", (_, text) => {
    expect(scan(text)).toBeUndefined();
  });

  test(`random files: what csv-parse reads, or nothing (seed ${runSeed})`, () => {
    const next = random(runSeed);
    const pieces = ['"', '""', ",", "\n", "\r\n", "a", "é", " ", "1", '"x"', '"",""', ""];
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
      const newline = pick(["\n", "\r\n"]);
      const columns = 2 + Math.floor(next() * 3);
      const want: { readonly cells: string[]; readonly line: number }[] = [];
      let text = "";
      let line = 1;
      for (let record = 0; record < 6; record++) {
        if (next() < 0.2) {
          text += newline;
          line++;
        }
        const cells = Array.from({ length: columns }, (_, column) =>
          record === 0 ? `column ${column}` : pick(["", "x", 'say ""', 'a "b", c', `two${newline}lines`, "é", "{}"]),
        );
        const quoted = cells.map((cell) =>
          /[",\r\n]/.test(cell) || next() < 0.3 ? `"${cell.replaceAll('"', '""')}"` : cell,
        );
        if (record > 0) want.push({ cells, line });
        text += quoted.join(",") + newline;
        line += 1 + cells.filter((cell) => cell.includes("\n")).length;
      }
      expect(scan(text), text).toBeDefined();
      const rows = openCsv(tempFile("random.csv", text)).map((cells, at) => ({ cells, line: at }));
      expect({ text, rows }).toEqual({ text, rows: want });
    }
  });
});
