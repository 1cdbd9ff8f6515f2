/** docs/plugins.md: its files are written to a folder outside the repository, and its commands run there, in order. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tiers } from "../support/gpu.ts";
import { typescriptCompiler } from "../support/packages.ts";
import { installPacked, type Outside, runIn } from "../support/packed.ts";

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/plugins.md"), "utf8");

/** Blocks in order: `file` where the fence names one. */
const blocks = [...page.matchAll(/^```(\w+)(?: file=(\S+))?\n([\s\S]*?)^```$/gm)].map((match) => ({
  language: match[1]!,
  file: match[2],
  text: match[3]!,
}));
const commands = blocks.filter(({ language }) => language === "sh").flatMap(({ text }) => text.trim().split("\n"));
const needsGpu = /^(?:bun test (?!margin|expected-cost|focal|halving|webhook)|qlora (?:train|eval)|cd )/;

const compiler = typescriptCompiler();
let outside: Outside;

beforeAll(async () => {
  outside = await installPacked();
  for (const { file, text } of blocks) if (file !== undefined) writeFileSync(join(outside.folder, file), text);
}, 60_000);
afterAll(() => outside.remove());

test("every block is a file or commands", () => {
  expect(blocks.length).toBeGreaterThan(20);
  expect(blocks.filter(({ language, file }) => (file === undefined) !== (language === "sh"))).toEqual([]);
});

test.skipIf(compiler === undefined)(
  "its files typecheck together",
  async () => {
    const ran = await runIn(outside.folder, [process.execPath, compiler!, "-p", "."]);
    expect(ran).toEqual({ exit: 0, stdout: "", stderr: "" });
  },
  120_000,
);

/** What stands for a command here: packages are installed already. */
function wordsOf(command: string): { readonly folder: string; readonly words: readonly string[] } | undefined {
  const [, inside, last = command] = /^cd (\S+) && (?:.* && )?(.*)$/.exec(command) ?? [];
  const words = last.split(/\s+/).map((word) => word.replace(/^'(.*)'$/, "$1"));
  if (words[0] === "bun" && words[1] === "add") return undefined;
  if (words[0] === "mkdir" || inside === "my-plugins") return undefined;
  return { folder: join(outside.folder, inside ?? "."), words };
}

describe("commands", () => {
  for (const command of commands) {
    const skipped = tiers.length === 0 && needsGpu.test(command);
    if (skipped) console.error(`SKIPPED: no GPU for ${command}`);
    test.skipIf(skipped)(command, () => runs(command), 300_000);
  }

  async function runs(command: string): Promise<void> {
    const found = wordsOf(command);
    if (found === undefined) return;
    const { folder, words } = found;
    const { exit, stdout, stderr } =
      words[0] === "qlora"
        ? await outside.qlora(...words.slice(1))
        : await runIn(folder, [process.execPath, ...words.slice(1)]);
    expect(exit, stderr + stdout).toBe(0);
    if (words[1] === "test") expect(stderr).toMatch(/^ *[1-9]\d* pass$/m);
    if (words[1] === "train") expect(stderr).toContain("2 steps, train loss");
  }
});

test("links lead somewhere", () => {
  for (const [, target] of page.matchAll(/\]\((?!https?:|#)([^)#]+)\)/g))
    expect(existsSync(join(root, "docs", target!)), target).toBe(true);
});
