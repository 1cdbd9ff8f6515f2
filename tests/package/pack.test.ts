import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };

const root = join(import.meta.dir, "../..");
let folder = "";

async function run(command: readonly string[], cwd: string): Promise<string> {
  const env = { ...process.env, PATH: `${join(process.execPath, "..")}:${process.env["PATH"] ?? ""}` };
  const child = Bun.spawn([...command], { cwd, env, stdout: "pipe", stderr: "pipe" });
  const [code, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  if (code !== 0) throw new Error(`${command.join(" ")} exited with ${code}: ${stderr}`);
  return stdout;
}

/** Installs the packed project in an empty folder as a registry would, its dependencies taken from the checkout. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "qlora-pack-"));
  await run([process.execPath, "pm", "pack", "--quiet", "--destination", folder], root);
  const modules = join(folder, "node_modules");
  const installed = join(modules, "qlora");
  mkdirSync(installed, { recursive: true });
  const [tarball = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  await run(["tar", "-xzf", join(folder, tarball), "-C", installed, "--strip-components=1"], folder);
  mkdirSync(join(modules, ".bin"));
  symlinkSync("../qlora/cli/main.ts", join(modules, ".bin", "qlora"));
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (!name.startsWith(".")) symlinkSync(join(root, "node_modules", name), join(modules, name));
  }
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("bunx qlora runs from an empty folder", async () => {
  const bunx = [process.execPath, "x", "--no-install", "qlora"];
  expect(await run([...bunx, "--version"], folder)).toBe(`${packageJson.version}\n`);
  expect(await run([...bunx, "--help"], folder)).toContain("doctor");
  expect(await run([...bunx, "train", "--help"], folder)).toContain("--adapter.rank");
}, 30_000);

test("every entry point can be imported", async () => {
  const code = `
    const names = ["qlora", "qlora/plugins", "qlora/kernels", "qlora/testing"];
    for (const name of names) if (Object.keys(await import(name)).length === 0) throw new Error(name + " exports nothing");
    process.exit(0);`;
  await run([process.execPath, "-e", code], folder);
}, 30_000);

test("what the code reads at run time is packed, and nothing of the workshop", () => {
  const installed = join(folder, "node_modules", "qlora");
  const shaders = [...new Bun.Glob("kernels/**/*.wgsl").scanSync(root)];
  expect(shaders.length).toBeGreaterThan(5);
  for (const file of [...shaders, "assets/tiny-gemma2-nf4/model.safetensors", "LICENSE", "CHANGELOG.md"]) {
    expect(existsSync(join(installed, file)), file).toBe(true);
  }
  for (const name of ["tests", "scripts", "bench", ".ci"]) expect(existsSync(join(installed, name)), name).toBe(false);
});
