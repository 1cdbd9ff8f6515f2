/** Every @example in a doc comment typechecks and runs, with the prelude's names at hand. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tiers } from "../support/gpu.ts";
import { typescriptCompiler } from "../support/packages.ts";
import { docExamples, exampleModule, examplesOf } from "./doc-examples.ts";

const root = join(import.meta.dir, "../..");
const compiler = typescriptCompiler();
const folder = join(root, ".cache/docs", `examples-${process.pid}`);
const examples = docExamples();

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("examples are found, on one line and on many", () => {
  const text =
    "/** One. @example a(1) */\n/**\n * Two.\n * @throws E\n * @example\n * b(\n *   2,\n * );\n * @example c(3)\n * @returns x\n */";
  expect(examplesOf("f.ts", text).map(({ code }) => code)).toEqual(["a(1)", "b(\n  2,\n);", "c(3)"]);
  expect(examples.length).toBeGreaterThan(50);
});

describe("examples in doc comments", () => {
  mkdirSync(folder, { recursive: true });
  examples.forEach((example, i) => writeFileSync(join(folder, `${i}.ts`), exampleModule(example, folder)));
  const named = (text: string): string =>
    text.replaceAll(/\S*?(\d+)\.ts\((\d+)/g, (_, i, line) => `${examples[i]!.name} (line ${line}`);

  test.skipIf(compiler === undefined)(
    "typecheck",
    () => {
      const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false };
      const project = { extends: "../../../tsconfig.json", compilerOptions, include: ["*.ts"], exclude: [] };
      writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(project));
      const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, compiler!, "-p", folder], { cwd: root });
      expect({ exitCode, out: named(stdout.toString() + stderr.toString()) }).toEqual({ exitCode: 0, out: "" });
    },
    120_000,
  );

  test.skipIf(tiers.length === 0)(
    "run",
    async () => {
      const runner = `import { runChecks } from ${JSON.stringify(join(import.meta.dir, "prelude.ts"))};
for (let i = 0; i < ${examples.length}; i++) {
  try {
    await (await import(\`./\${i}.ts\`)).example();
    await runChecks();
  } catch (error) {
    process.stdout.write(\`\\nFAILED \${i} \${error}\\n\`);
  }
}
process.stdout.write("\\nDONE\\n");
process.exit();`;
      writeFileSync(join(folder, "run.mjs"), runner);
      const child = Bun.spawn([process.execPath, join(folder, "run.mjs")], {
        cwd: folder,
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      const failed = [...out.matchAll(/^FAILED (\d+) (.*)$/gm)].map(
        ([, i, error]) => `${examples[Number(i)]!.name}: ${error}`,
      );
      expect(failed).toEqual([]);
      expect(out, said).toContain("DONE");
    },
    240_000,
  );
});
