/** The picture of the speeds, and README's sentence about it, say what docs/performance.md measured. */
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
  const [fast, , block, , lengths, , , lean] = measured();
  const shown = [...read("docs/images/speed.svg").matchAll(/class="[vn]">([\d.,]+)</g)].map(([, number]) => number);
  const bars = [fast!, block!, lengths!, lean!].flatMap(([, ours, emulated, bitsandbytes]) => [
    ours,
    bitsandbytes,
    emulated,
  ]);
  expect(shown).toEqual(bars);
});

test("README's ratios are the table's", () => {
  const number = (cell: string | undefined): number => Number(cell!.replace(",", ""));
  const [fast, , block, , lengths, , , lean] = measured();
  const ratio = ([, ours, , theirs]: readonly string[]): string => (number(ours) / number(theirs)).toFixed(1);
  const readme = read("README.md").replace(/\s+/g, " ");
  expect(readme).toContain(`${ratio(fast!)} times the samples a second of transformers + peft + bitsandbytes`);
  expect(readme).toContain(`${ratio(block!)} times with every block checkpointed`);
  expect(readme).toContain(`${ratio(lengths!)} times the tokens a second on real lengths`);
  expect(readme).toContain(`${number(lean![1]).toFixed(1)} GiB where theirs takes ${lean![3]}`);
});
