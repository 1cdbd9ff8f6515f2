/** The picture of the speeds, and README's table, say what docs/performance.md measured. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..", "..");
const read = (name: string): string => readFileSync(join(root, name), "utf8");

/** Cells of the first table's rows, by the row's first cell; a row of memory follows the speed that it belongs to. */
function measured(): readonly (readonly string[])[] {
  const [table] = /(?:^\|.*\n)+/m.exec(read("docs/performance.md"))!;
  return table
    .trim()
    .split("\n")
    .slice(2)
    .map((row) =>
      row
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim().replace(/ \(.*\)| GiB/g, "")),
    );
}

test("the picture shows the table's numbers", () => {
  const [fast, , block, , lengths] = measured();
  const [, ours, , emulated] = measured().at(-1)!;
  const shown = [...read("docs/images/speed.svg").matchAll(/class="[vn]">([\d.,]+)</g)].map(([, number]) => number);
  expect(shown).toEqual([...fast!.slice(1), ...block!.slice(1), ...lengths!.slice(1), ours!, emulated!]);
});

test("README's table is this one", () => {
  const rows = measured();
  expect(rows).toHaveLength(9);
  const readme = read("README.md");
  const [table] = /^\| Gemma-2-9B[\s\S]*?\n\n/m.exec(readme)!;
  const cells = table
    .trim()
    .split("\n")
    .slice(2)
    .flatMap((row) => row.split("|").slice(2));
  const shown = cells.flatMap((cell) => cell.match(/[\d.,]+/g) ?? []);
  const wanted = new Set(rows.flatMap((row) => row.slice(1).filter((cell) => cell !== "")));
  expect(shown.length).toBeGreaterThan(12);
  expect(shown.filter((number) => !wanted.has(number))).toEqual([]);
});
