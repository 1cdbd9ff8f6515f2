import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { expectRun, installPacked, type Outside } from "../support/packed.ts";

const root = join(import.meta.dir, "../..");
let outside: Outside;
let folder = "";

beforeAll(async () => {
  outside = await installPacked();
  ({ folder } = outside);
}, 60_000);
afterAll(() => outside.remove());

test("bunx qlora runs from an empty folder", async () => {
  const bunx = [process.execPath, "x", "--no-install", "qlora"];
  expect(await expectRun(folder, [...bunx, "--version"])).toBe(`${packageJson.version}\n`);
  expect(await expectRun(folder, [...bunx, "--help"])).toContain("doctor");
  expect(await expectRun(folder, [...bunx, "train", "--help"])).toContain("--adapter.rank");
}, 30_000);

test("every entry point can be imported", async () => {
  const code = `
    const names = ["qlora", "qlora/plugins", "qlora/kernels", "qlora/testing"];
    for (const name of names) if (Object.keys(await import(name)).length === 0) throw new Error(name + " exports nothing");
    process.exit(0);`;
  await expectRun(folder, [process.execPath, "-e", code]);
}, 30_000);

test("what the code reads at run time is packed, and nothing of the workshop", () => {
  const { installed } = outside;
  const shaders = [...new Bun.Glob("kernels/**/*.wgsl").scanSync(root)];
  expect(shaders.length).toBeGreaterThan(5);
  for (const file of [
    ...shaders,
    "assets/tiny-gemma2-nf4/model.safetensors",
    "web/manifest.ts",
    "dist/web/judge.js",
    "LICENSE",
    "CHANGELOG.md",
  ]) {
    expect(existsSync(join(installed, file)), file).toBe(true);
  }
  for (const name of ["tests", "scripts", "bench", ".ci"]) expect(existsSync(join(installed, name)), name).toBe(false);
});
