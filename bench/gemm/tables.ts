import type { Result, Session } from "./session.ts";
import { BLOCKS, groupsOf, linearsOf } from "./shapes.ts";

const unique = <T>(list: readonly T[]): T[] => [...new Set(list)];

/** TFLOP/s of a whole block: operations over time, each linear counted as often as the block has it. */
function blockRate(results: readonly Result[], model: keyof typeof BLOCKS, forward: boolean): number {
  const counts = forward
    ? new Map(linearsOf(BLOCKS[model]).map(({ name, count }) => [name, count]))
    : new Map(groupsOf(BLOCKS[model]).map(({ name }) => [name, 1]));
  if (results.length !== counts.size) return Number.NaN;
  let [flops, ms] = [0, 0];
  for (const r of results) {
    const count = counts.get(r.name)!;
    flops += count * r.rate * r.ms;
    ms += count * r.ms;
  }
  return flops / ms;
}

function table(title: string, results: readonly Result[], average?: (tokens: number) => number): void {
  if (results.length === 0) return;
  const tokens = unique(results.map((r) => r.tokens)).toSorted((a, b) => a - b);
  console.log(`\n${title.padEnd(34)}${tokens.map((n) => String(n).padStart(8)).join("")}`);
  for (const name of unique(results.map((r) => r.name))) {
    const cells = tokens.map((n) => {
      const r = results.find((x) => x.name === name && x.tokens === n);
      return (r === undefined ? "" : `${r.rate.toFixed(0)}${r.wrong === undefined ? "" : "!"}`).padStart(8);
    });
    console.log(`${name.padEnd(34)}${cells.join("")}`);
  }
  if (average !== undefined)
    console.log(`${"the block".padEnd(34)}${tokens.map((n) => average(n).toFixed(0).padStart(8)).join("")}`);
}

/** One row a section, one column a name and number of tokens. */
function grid(title: string, results: readonly Result[], prefix: string): void {
  if (results.length === 0) return;
  const columns = unique(results.map((r) => `${r.name}/${r.tokens}`));
  console.log(`\n${title.padEnd(30)}${columns.map((c) => c.slice(-14).padStart(15)).join("")}`);
  for (const section of unique(results.map((r) => r.section))) {
    const cells = columns.map((c) => {
      const r = results.find((x) => x.section === section && `${x.name}/${x.tokens}` === c);
      return (r === undefined ? "" : `${r.rate.toFixed(0)}${r.wrong === undefined ? "" : "!"}`).padStart(15);
    });
    console.log(`${section.slice(prefix.length).padEnd(30)}${cells.join("")}`);
  }
}

/** The tables a reader wants, the most important last. `!` marks a wrong result. */
export function printTables({ results, left }: Session): void {
  const of = (prefix: string): Result[] => results.filter((r) => r.section.startsWith(prefix));
  for (const name of left.slice(0, 5)) console.log(`left out: ${name}`);
  grid("few tokens, TFLOP/s", of("few tokens: "), "few tokens: ");
  grid("thin products, GB/s", of("lora: "), "lora: ");
  grid("operands, GB/s", [...of("dequantize, "), ...of("f16 copies")], "");
  grid("split tail, TFLOP/s", of("tail, "), "");
  grid("relay, TFLOP/s", of("relay: "), "relay: ");
  grid("variants, TFLOP/s", of("variant: "), "variant: ");
  for (const section of ["forward + lora 9b", "gradient + lora 9b (p = 0)"])
    table(
      `${section}, TFLOP/s`,
      results.filter((r) => r.section === section),
    );
  for (const model of ["2b", "27b", "9b"] as const) {
    for (const kind of ["forward", "gradient"] as const) {
      const lines = results.filter((r) => r.section === `${kind} ${model}`);
      table(`${kind} ${model}, TFLOP/s`, lines, (n) =>
        blockRate(
          lines.filter((r) => r.tokens === n),
          model,
          kind === "forward",
        ),
      );
    }
  }
  const wrong = results.filter((r) => r.wrong !== undefined);
  for (const r of wrong) console.log(`WRONG: ${r.section} ${r.name} ${r.tokens}: ${r.wrong}`);
}
