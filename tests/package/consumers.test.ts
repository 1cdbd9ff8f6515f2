/** The declarations in the tarball: whoever compiles against the package sees no error of ours, whatever resolves its modules. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { typescriptCompiler } from "../support/packages.ts";
import { installPacked, type Outside, runIn } from "../support/packed.ts";

const compiler = typescriptCompiler();
let outside: Outside;

beforeAll(async () => {
  outside = await installPacked();
  writeFileSync(join(outside.folder, "package.json"), JSON.stringify({ type: "module" }));
  copyFileSync(join(import.meta.dir, "fixtures/consumer.ts"), join(outside.folder, "consumer.ts"));
});
afterAll(() => outside.remove());

/** Errors in the consumer's file and in the package, declarations included; those of other packages are not ours. */
async function errorsWith(options: object): Promise<readonly string[]> {
  const compilerOptions = { strict: true, target: "es2022", noEmit: true, skipLibCheck: false, ...options };
  writeFileSync(join(outside.folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }));
  const { stdout } = await runIn(outside.folder, [process.execPath, compiler!, "-p", ".", "--listFiles"]);
  const lines = stdout.split("\n");
  expect(lines.filter((line) => line.endsWith("node_modules/qlora/dist/types/core/index.d.ts"))).toHaveLength(1);
  expect(lines.filter((line) => /node_modules\/qlora\/.*(?<!\.d)\.ts$/.test(line))).toEqual([]); // none of the sources
  return lines.filter((line) => /^(consumer\.ts|node_modules\/qlora\/\S*)\(\d+,\d+\): error/.test(line));
}

test.skipIf(compiler === undefined)("module nodenext, strict, with the compiler's own WebGPU types", async () => {
  expect(await errorsWith({ module: "nodenext", types: [] })).toEqual([]);
});

test.skipIf(compiler === undefined)("moduleResolution bundler, with @webgpu/types and no DOM", async () => {
  const options = { module: "esnext", moduleResolution: "bundler", lib: ["esnext"], types: ["bun", "@webgpu/types"] };
  expect(await errorsWith(options)).toEqual([]);
});
