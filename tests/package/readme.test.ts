/** The README as it is packed: its links resolve, and its blocks run in a folder that holds nothing but the installed package. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { readBlocks } from "../docs/blocks.ts";
import { tiers } from "../support/gpu.ts";
import { expectRun, installPacked, type Outside, runIn } from "../support/packed.ts";

const page = (name: string): string => readFileSync(join(import.meta.dir, "../..", name), "utf8");
const readme = page("README.md");
const manual = page("docs/commands.md");
const codeIn = (text: string, language: string): string[] =>
  readBlocks(text)
    .filter((block) => block.language === language)
    .map(({ code }) => code);
const codeOf = (language: string): string[] => codeIn(readme, language);
const commandsIn = (text: string): string[] =>
  codeIn(text, "sh").flatMap((code) => code.replaceAll("\\\n", " ").trim().split("\n"));
const commands = commandsIn(readme);
const [, script = ""] = codeOf("ts");
const bunx = [process.execPath, "x", "--no-install", "qlora"];

let outside: Outside;
beforeAll(async () => {
  outside = await installPacked();
}, 60_000);
afterAll(() => outside.remove());

test("every block is a command or one of two files", () => {
  expect(codeOf("ts")).toHaveLength(2);
  expect(codeOf("sh").length + 2).toBe(readBlocks(readme).length);
  expect(commands.filter((command) => !/^(npm |bun add qlora$|bunx qlora (demo|train)\b)/.test(command))).toEqual([]);
});

test("npm's commands, which are for a checkout, exist there", () => {
  const scripts = commands.filter((command) => command.startsWith("npm ")).map((command) => command.split(" ").at(-1)!);
  expect(scripts).toEqual(["demo", "test"]);
  expect(Object.keys(manifest.scripts)).toEqual(expect.arrayContaining(scripts));
});

test.each([
  ["README's preset", readme, { adapter: { options: { rank: 64, alpha: 32 } }, data: { trainFiles: ["train.csv"] } }],
  ["docs/commands.md", manual, { adapter: { options: { rank: 64, alpha: 32 } }, data: { nSplits: 100 } }],
])(
  "the config file says what the flags say: %s",
  async (_, text, expected) => {
    const [flags = ""] = commandsIn(text).filter((command) => command.startsWith("bunx qlora train "));
    const words = flags.split(/\s+/).slice(2);
    const byFlags = await expectRun(outside.folder, [...bunx, ...words, "--print-config"]);
    expect(JSON.parse(byFlags)).toMatchObject(expected);
    writeFileSync(join(outside.folder, "qlora.config.ts"), codeIn(text, "ts")[0]!);
    expect(await expectRun(outside.folder, [...bunx, "train", "--print-config"])).toBe(byFlags);
    rmSync(join(outside.folder, "qlora.config.ts"));
  },
  60_000,
);

test("the table names every command", async () => {
  const usage = await expectRun(outside.folder, [...bunx, "--help"]);
  const known = /^USAGE .* (\S+)$/m.exec(usage)![1]!.split("|");
  expect(known).toContain("train");
  const named = [...manual.matchAll(/^\| `qlora (\w+)/gm)].map((match) => match[1]!);
  expect(named.toSorted()).toEqual(known.toSorted());
}, 30_000);

test("the pages that are packed link to files that are packed", () => {
  const pages = ["*.md", "docs/**/*.md"].flatMap((glob) => [...new Bun.Glob(glob).scanSync(outside.installed)]);
  expect(pages).toEqual(expect.arrayContaining(["README.md", "docs/plugins.md", "docs/api/qlora.md"]));
  const broken = pages.flatMap((page) => {
    const prose = readFileSync(join(outside.installed, page), "utf8").replaceAll(/^```[\s\S]*?^```/gm, "");
    const links = [...prose.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)];
    const targets = links.map((link) => join(outside.installed, dirname(page), link[1]!));
    return targets
      .filter((target) => relative(outside.installed, target).startsWith("..") || !existsSync(target))
      .map((target) => `${page}: ${relative(outside.installed, target)}`);
  });
  expect(broken).toEqual([]);
});

test.skipIf(tiers.length === 0)(
  "the demo learns its task",
  async () => {
    expect(commands).toContain("bunx qlora demo");
    const { exit, stdout, stderr } = await runIn(outside.folder, [...bunx, "demo"]);
    expect(exit, stderr).toBe(0);
    const accuracy = Number(/^eval_accuracy\s+(\S+)/m.exec(stdout)?.[1]);
    console.log(`demo: evaluation accuracy ${accuracy}; ${/Done in .*/.exec(stderr)?.[0]}`);
    expect(accuracy).toBeGreaterThan(0.9);
    const lines = readFileSync(join(outside.folder, "output/demo/predictions.csv"), "utf8").trim().split("\n");
    expect(lines.length).toBe(601);
    expect(lines[0]).toBe("id,winner_model_a,winner_model_b,winner_tie");
    for (const name of [
      "report.html",
      "adapter_model.safetensors",
      "adapter_config.json",
      "run.json",
      "trainer_state.json",
    ]) {
      expect(existsSync(join(outside.folder, "output/demo/run", name)), name).toBe(true);
    }
  },
  300_000,
);

test.skipIf(tiers.length === 0)(
  "then the script trains on the demo's rows",
  async () => {
    writeFileSync(join(outside.folder, "script.ts"), script);
    const out = await expectRun(outside.folder, [process.execPath, "script.ts"]);
    expect(Number(out.trim().split("\n").at(-1))).toBeGreaterThan(0);
  },
  300_000,
);

test.skipIf(tiers.length === 0)(
  "an example runs as installed and writes to this folder alone",
  async () => {
    const [, path = ""] = /`bun (node_modules\/qlora\/examples\/\S+)`/.exec(readme) ?? [];
    const out = await expectRun(outside.folder, [process.execPath, path]);
    expect(out).toContain("logits of the first text:");
    expect(existsSync(join(outside.installed, "output"))).toBe(false);
  },
  240_000,
);
