/** Every command and code block of the README is run. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../core/files.ts";
import { demoCsv } from "../../demo/generate.ts";
import manifest from "../../package.json" with { type: "json" };
import { tiers } from "../support/gpu.ts";

const root = join(import.meta.dir, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))].map((match) => match[1]!);

/** Runs a block as a file inside the package, so that it may import "qlora" by name. */
async function runBlock(code: string, name: string): Promise<{ readonly out: string; readonly exit: number }> {
  const folder = join(root, ".cache", "docs");
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${name}-${process.pid}.ts`);
  await writeFileAtomic(file, code);
  try {
    const child = Bun.spawn([process.execPath, file], { cwd: root, stdout: "pipe", stderr: "pipe", stdin: "ignore" });
    const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    const exit = await child.exited;
    return { out: exit === 0 ? out : said, exit };
  } finally {
    await rm(file, { force: true });
  }
}

describe("README", () => {
  const commands = blocks("sh").flatMap((block) => block.replaceAll("\\\n", " ").trim().split("\n"));
  test.each(commands)("%s", (command) => {
    const words = command.trim().split(/\s+/);
    if (words[0] === "npm") {
      // The commands themselves: npm test runs this file, and tests/demo runs the demo.
      const script = words[1] === "run" ? words[2]! : words[1]!;
      expect(Object.keys(manifest.scripts)).toContain(script);
      return;
    }
    expect(words.slice(0, 2)).toEqual(["bunx", "qlora"]);
    const extra = words[2] === "train" ? ["--print-config"] : ["--help"];
    const { exitCode, stderr } = Bun.spawnSync([
      process.execPath,
      join(root, "cli/main.ts"),
      ...words.slice(2),
      ...extra,
    ]);
    expect(stderr.toString()).toBe("");
    expect(exitCode).toBe(0);
  });

  const [config, script] = blocks("ts");
  test("the config file is a valid config", async () => {
    expect(config).toContain("export default defineConfig");
    expect(await runBlock(config!, "config")).toEqual({ out: "", exit: 0 });
  });

  test.skipIf(tiers.length === 0)(
    "the script trains",
    async () => {
      const data = join(root, "output/demo/arena.csv");
      if (!existsSync(data)) await writeFileAtomic(data, demoCsv(600, 7));
      const { out, exit } = await runBlock(script!, "script");
      expect(exit, out).toBe(0);
      expect(Number(out.trim().split("\n").at(-1))).toBeGreaterThan(0);
    },
    300_000,
  );

  test("links lead somewhere", () => {
    for (const [, target] of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g))
      expect(existsSync(join(root, target!)), target).toBe(true);
  });
});
