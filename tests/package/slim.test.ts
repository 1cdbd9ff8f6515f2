/** `bun add qlora --omit optional`: what it weighs, that it trains, evaluates and predicts, and how it says what it lacks. */
import { afterAll, expect, test } from "bun:test";
import { cpSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { tiers } from "../support/gpu.ts";
import { expectRun, installPacked, type Outside, runIn, tinyRunFlags } from "../support/packed.ts";

const LIMIT = 110e6;
const outside: Outside = await installPacked();
const slim = mkdtempSync(join(tmpdir(), "qlora-slim-"));
const there = await add();

/** True once the package is installed; false, said loudly, where no registry answers. Anything else that goes wrong throws. */
async function add(): Promise<boolean> {
  writeFileSync(join(slim, "package.json"), "{}");
  writeFileSync(join(slim, "rows.csv"), demoCsv(24, 3));
  const { exit, stderr } = await runIn(slim, [process.execPath, "add", outside.tarball, "--omit", "optional"]);
  if (exit === 0) return true;
  if (!/ConnectionRefused|ConnectionClosed|DNSResolveFailed|FailedToOpenSocket|Timeout/.test(stderr))
    throw new Error(stderr);
  console.error("SKIPPED: no registry answers, so the package cannot be installed without its optional packages");
  return false;
}

afterAll(() => {
  rmSync(slim, { recursive: true, force: true });
  outside.remove();
});

const qlora = (...args: readonly string[]) => runIn(slim, [process.execPath, "x", "--no-install", "qlora", ...args]);

test.skipIf(!there)("its size", () => {
  const modules = join(slim, "node_modules");
  const files = (readdirSync(modules, { recursive: true }) as string[]).map((name) => join(modules, name));
  const bytes = files.reduce((sum, file) => sum + lstatSync(file).size, 0);
  console.log(`bun add qlora --omit optional: ${(bytes / 1e6).toFixed(1)} MB`);
  expect(bytes).toBeGreaterThan(50e6); // the tokenizer and the GPU's binding are there
  expect(bytes).toBeLessThan(LIMIT);
  const names = readdirSync(modules);
  expect(names).toContain("tokenizers");
  for (const name of ["webgpu", "onnxruntime-node", "onnxruntime-web"]) expect(names).not.toContain(name);
});

test.skipIf(!there || tiers.length === 0)("train, eval and predict", async () => {
  const flags = tinyRunFlags({ ...outside, installed: join(slim, "node_modules/qlora") }, "rows.csv", "run");
  const steps = [
    ["train", ...flags, "--gpu", "auto"],
    ["eval", "run", "--json"],
    ["predict", "run", "rows.csv", "--output", "predictions.csv"],
  ];
  for (const step of steps) {
    const { exit, stderr } = await qlora(...step);
    expect(exit, stderr).toBe(0);
  }
  expect(readdirSync(slim)).toContain("predictions.csv");
});

test.skipIf(!there)("what needs a package that was left out says which to add", async () => {
  const installed = join(slim, "node_modules/qlora");
  const folder = join(slim, "tokenizer");
  mkdirSync(folder);
  cpSync(join(installed, "assets/tiny-gemma2-nf4/tokenizer_config.json"), join(folder, "tokenizer_config.json"));
  const code = `import { openGpu } from "qlora";
import { loadTokenizer } from ${JSON.stringify(join(installed, "runtime/data/tokenizer.ts"))};
for (const call of [() => loadTokenizer("tokenizer"), () => openGpu({ gpu: "webgpu" })])
  await call().catch(({ code, hint }) => console.log(JSON.stringify({ code, hint })));`;
  const out = await expectRun(slim, [process.execPath, "-e", code]);
  expect(
    out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object),
  ).toEqual([
    {
      code: "PACKAGE_NOT_LOADED",
      hint: expect.stringMatching(/^Add it \(bun add @huggingface\/transformers\), or put a tokenizer\.json/),
    },
    { code: "PROVIDER_UNAVAILABLE", hint: expect.stringContaining("(bun add webgpu), or use --gpu bun-webgpu.") },
  ]);
});
