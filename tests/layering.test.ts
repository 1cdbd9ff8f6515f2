import { expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";
import { importsOf } from "./support/imports.ts";

const root = join(import.meta.dir, "..");

/** Folders that a folder's files may import, besides itself. Arrows: cli -> core <- plugins -> kernels -> core. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  kernels: ["core"],
  plugins: ["core", "kernels"],
  demo: ["plugins"],
  cli: ["core", "plugins", "demo"],
  testing: ["core", "kernels"],
};

/**
 * Files of the root that may be imported too: the version by everybody, the SDK's entry by the command line, the demo and
 * plugins that are written as a third party's would be, against `qlora` and `qlora/kernels` alone.
 */
const rootFiles = (from: string): readonly string[] =>
  ["cli", "demo", "plugins"].includes(from) ? ["index.ts", "package.json"] : ["package.json"];

/** The file that the package's own name stands for: `qlora/kernels` -> `kernels/index.ts`. */
const ownName = (specifier: string): string | undefined =>
  /^qlora(\/\w+)?$/.test(specifier) ? join(specifier.replace("qlora", "."), "index.ts") : undefined;

/** Packages that exactly one file may import, so that their quirks stay in one place. */
const onlyIn: Readonly<Record<string, RegExp>> = {
  "bun-webgpu": /^core\/device\//,
  webgpu: /^core\/device\//,
  citty: /^cli\//,
  consola: /^cli\//,
};

/** Why `file` (relative to the root) may not import `specifier`, or undefined where it may. */
function wrongArrow(file: string, specifier: string): string | undefined {
  const from = file.split("/")[0]!;
  const self = ownName(specifier);
  if (self === undefined && !specifier.startsWith(".")) {
    const owner = onlyIn[specifier];
    return owner === undefined || owner.test(file)
      ? undefined
      : `${file} imports ${specifier}, which only ${owner} may`;
  }
  const target = self ?? normalize(join(dirname(file), specifier));
  const to = target.split("/")[0]!;
  const free = to === from || allowed[from]!.includes(to) || rootFiles(from).includes(target);
  return free ? undefined : `${file} imports ${target}: ${from} may import ${["itself", ...allowed[from]!].join(", ")}`;
}

test("imports point down: cli -> core <- plugins -> kernels -> core", async () => {
  const problems: string[] = [];
  let files = 0;
  for (const file of new Bun.Glob(`{${Object.keys(allowed).join(",")}}/**/*.ts`).scanSync(root)) {
    files++;
    for (const specifier of importsOf(await Bun.file(join(root, file)).text())) {
      const problem = wrongArrow(file, specifier);
      if (problem !== undefined) problems.push(problem);
    }
  }
  expect(files).toBeGreaterThan(20);
  expect(problems).toEqual([]);
});

test("a wrong arrow is seen, in every form of import", () => {
  const code = `
    import { a } from "../cli/a.ts";
    import type { b } from '../plugins/b.ts';
    export {
      c,
    } from "../kernels/c/index.ts";
    const d = await import("../testing/d.ts");
    import "../index.ts";
    import { fine } from "./fine.ts";
    import shader from "./x.wgsl" with { type: "text" };
  `;
  const found = importsOf(code).map((specifier) => wrongArrow("core/x.ts", specifier));
  expect(found.filter((problem) => problem !== undefined)).toHaveLength(5);
  expect(found).toHaveLength(7);
  expect(wrongArrow("kernels/rope/index.ts", "../../plugins/lora/index.ts")).toContain(
    "kernels may import itself, core",
  );
  expect(wrongArrow("cli/main.ts", "../index.ts")).toBeUndefined();
  expect(wrongArrow("cli/main.ts", "../kernels/index.ts")).toBeDefined();
  expect(wrongArrow("core/data/a.ts", "webgpu")).toBeDefined();
  expect(wrongArrow("plugins/x/index.ts", "qlora/kernels")).toBeUndefined();
  expect(wrongArrow("kernels/x/index.ts", "qlora/plugins")).toContain("plugins/index.ts");
  expect(wrongArrow("core/x.ts", "qlora")).toContain("core/x.ts imports index.ts");
});

/** What writes a disk without going through runtime/files/disk.ts, in the text of a file. */
function strayWrites(code: string): string[] {
  const names =
    "appendFile|chmod|copyFile|cp|createWriteStream|link|mkdir|mkdtemp|open|openSync|rename|rm|rmdir|symlink|truncate|unlink|utimes|write|writeFile";
  const imported = [...code.matchAll(/import (?:type )?\{([^}]*)\} from "node:fs(?:\/promises)?"/g)].flatMap(
    ([, list]) => list!.split(",").map((name) => name.trim().split(" as ")[0]!),
  );
  const whole = [...code.matchAll(/import (?:\* as )?\w+ from "(?:node:)?fs(?:\/promises)?"|Bun\.write\b|\.writer\(/g)];
  const writer = new RegExp(`^(?:${names})(?:Sync)?$`);
  return [...imported.filter((name) => writer.test(name)), ...whole.map(([text]) => text)];
}

/** Opens files to read them alone. */
const READERS = ["runtime/files/file-kind.ts", "core/formats/safetensors.ts"];

test("nothing but runtime/files/disk.ts writes a disk", async () => {
  const stray: string[] = [];
  for (const file of new Bun.Glob("{core,cli,kernels,plugins}/**/*.ts").scanSync(root)) {
    const found = strayWrites(await Bun.file(join(root, file)).text());
    const allowed = READERS.includes(file) ? ["open"] : [];
    if (file !== "runtime/files/disk.ts")
      stray.push(...found.filter((name) => !allowed.includes(name)).map((n) => `${file}: ${n}`));
  }
  expect(stray).toEqual([]);
  const code = `
    import { existsSync, mkdirSync } from "node:fs";
    import { readFile, rm as remove } from "node:fs/promises";
    import fs from "node:fs";
    await Bun.write("a", "b"); Bun.file("a").writer();
  `;
  expect(strayWrites(code)).toEqual(["mkdirSync", "rm", 'import fs from "node:fs"', "Bun.write", ".writer("]);
});
