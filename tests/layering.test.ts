import { expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";
import { importsOf } from "./support/imports.ts";

const root = join(import.meta.dir, "..");

/** Folders that a folder's files may import, besides itself. Arrows: cli -> index.ts -> sdk -> runtime, plugins -> kernels -> core. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  kernels: ["core"],
  plugins: ["core", "kernels"],
  runtime: ["core", "kernels"],
  web: ["core", "kernels", "plugins", "runtime"],
  sdk: ["core", "kernels", "plugins", "runtime", "web"],
  demo: ["plugins"],
  cli: ["core", "plugins", "runtime", "sdk", "demo"],
  testing: ["core", "kernels", "runtime"],
};

/** The folders (and files) inside core and runtime, the lowest first: each may import those before it. */
const order: Readonly<Record<string, readonly string[]>> = {
  core: ["errors", "util", "device", "compute", "formats", "options", "plugin", "adapter", "index"],
  runtime: [
    "events",
    "host",
    "packages",
    "http",
    "files",
    "distributed",
    "hub",
    "data",
    "config",
    "device",
    "session",
    "training",
    "planning",
    "folder",
    "reporting",
    "report",
    "run",
    "inference",
  ],
};

/** Files of the root that may be imported too: the version by everybody, the SDK's entry by the command line and the demo. */
const rootFiles = (from: string): readonly string[] =>
  ["cli", "demo"].includes(from) ? ["index.ts", "package.json"] : ["package.json"];

/** The file that the package's own name stands for: `qlora/kernels` -> `kernels/index.ts`. */
const ownName = (specifier: string): string | undefined =>
  /^qlora(\/\w+)?$/.test(specifier) ? join(specifier.replace("qlora", "."), "index.ts") : undefined;

/** What an import stands for, from the root; undefined for a package. */
function targetOf(file: string, specifier: string): string | undefined {
  return ownName(specifier) ?? (specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : undefined);
}

/** Packages that exactly one place may import, so that their quirks stay there. */
const onlyIn: Readonly<Record<string, RegExp>> = {
  "bun-webgpu": /^runtime\/device\//,
  webgpu: /^runtime\/device\//,
  citty: /^cli\//,
  consola: /^cli\//,
};

/** Why `file` (relative to the root) may not import `specifier`, or undefined where it may. */
function wrongArrow(file: string, specifier: string): string | undefined {
  const from = file.split("/")[0]!;
  const target = targetOf(file, specifier);
  if (target === undefined) {
    const owner = onlyIn[specifier];
    return owner === undefined || owner.test(file)
      ? undefined
      : `${file} imports ${specifier}, which only ${owner} may`;
  }
  const to = target.split("/")[0]!;
  if (to === from) return wrongFloor(from, file, target);
  const free = allowed[from]!.includes(to) || rootFiles(from).includes(target);
  return free ? undefined : `${file} imports ${target}: ${from} may import ${["itself", ...allowed[from]!].join(", ")}`;
}

/** The same inside core and runtime, by their written order. */
function wrongFloor(folder: string, file: string, target: string): string | undefined {
  const floors = order[folder];
  if (floors === undefined) return undefined;
  const [own, other] = [file, target].map((path) => path.split("/")[1]!.replace(/\.(d\.)?ts$/, ""));
  const [at, below] = [floors.indexOf(own!), floors.indexOf(other!)];
  if (at < 0 || below < 0)
    return `${file} imports ${target}: ${folder}/ has no place for ${at < 0 ? own : other} in its order`;
  return below <= at ? undefined : `${file} imports ${target}: in ${folder}/, ${other} comes after ${own}`;
}

/** Every file of the folders above, with the files it imports. */
async function importGraph(): Promise<Map<string, string[]>> {
  const graph = new Map<string, string[]>();
  for (const glob of ["index.ts", `{${Object.keys(allowed).join(",")}}/**/*.ts`]) {
    for (const file of new Bun.Glob(glob).scanSync(root)) {
      graph.set(file, importsOf(await Bun.file(join(root, file)).text()));
    }
  }
  return graph;
}

/** Groups of files that import each other in a circle, types included. */
function circlesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  const visit = (file: string): void => {
    index.set(file, index.size);
    low.set(file, index.get(file)!);
    stack.push(file);
    for (const next of graph.get(file)!) {
      if (!graph.has(next)) continue;
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(file, Math.min(low.get(file)!, low.get(next)!));
    }
    if (low.get(file) !== index.get(file)) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1 || graph.get(file)!.includes(file)) circles.push(circle);
  };
  for (const file of graph.keys()) if (!index.has(file)) visit(file);
  return circles;
}

test("imports point down: cli -> index.ts -> sdk -> runtime, plugins -> kernels -> core, and inside core and runtime", async () => {
  const problems: string[] = [];
  const graph = await importGraph();
  for (const [file, specifiers] of graph) {
    if (file === "index.ts") continue;
    for (const specifier of specifiers) {
      const problem = wrongArrow(file, specifier);
      if (problem !== undefined) problems.push(problem);
    }
  }
  expect(graph.size).toBeGreaterThan(300);
  expect(problems).toEqual([]);
});

test("no files import each other in a circle", async () => {
  const graph = await importGraph();
  const resolved = new Map(
    [...graph].map(([file, specifiers]) => [file, specifiers.flatMap((specifier) => targetOf(file, specifier) ?? [])]),
  );
  expect(circlesOf(resolved)).toEqual([]);
  const found = circlesOf(
    new Map([
      ["a", ["b"]],
      ["b", ["c", "d"]],
      ["c", ["a"]],
      ["d", ["e"]],
      ["e", []],
    ]),
  );
  expect(found.map((circle) => circle.toSorted())).toEqual([["a", "b", "c"]]);
});

/** What of a host a file's code uses: modules of Node, globals of Bun, Node and Deno, and the network. */
function hostApis(code: string): string[] {
  const bare = code.replace(/\/\*[\s\S]*?\*\/|(?<=^|[\s;{(,])\/\/[^\n]*/g, "");
  const modules = importsOf(bare).filter((name) => /^(node:|bun$|bun:|fs$|path$|os$)/.test(name));
  const globals = bare.match(
    /(?<![.\w$"'`])(Bun\.|Buffer\b|Deno\.|process\.|fetch\(|require\(|import\.meta\b|__dirname\b|localStorage\b|document\.|window\.)/g,
  );
  return [...modules, ...(globals ?? [])];
}

test("core, kernels and plugins use no API of a host", async () => {
  const found: string[] = [];
  for (const file of new Bun.Glob("{core,kernels,plugins}/**/*.ts").scanSync(root)) {
    found.push(...hostApis(await Bun.file(join(root, file)).text()).map((api) => `${file}: ${api}`));
  }
  expect(found).toEqual([]);
  const code = `
    import { join } from "node:path"; // Bun.file is only told of here
    const a = await Bun.file("x").text(), b = Buffer.from(a), c = process.env["A"], d = await fetch("x"), e = import.meta.dir;
    const processed = { window: 3, prefetch: (x) => x }; batch.process(); options.window.size;
  `;
  expect(hostApis(code)).toEqual(["node:path", "Bun.", "Buffer", "process.", "fetch(", "import.meta"]);
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
    import { fine } from "./errors.ts";
    import shader from "./x.wgsl" with { type: "text" };
  `;
  const found = importsOf(code).map((specifier) => wrongArrow("core/index.ts", specifier));
  expect(found.filter((problem) => problem !== undefined)).toHaveLength(6);
  expect(found).toHaveLength(7);
  expect(wrongArrow("kernels/rope/index.ts", "../../plugins/lora/index.ts")).toContain(
    "kernels may import itself, core",
  );
  expect(wrongArrow("cli/main.ts", "../index.ts")).toBeUndefined();
  expect(wrongArrow("cli/main.ts", "../kernels/index.ts")).toBeDefined();
  expect(wrongArrow("runtime/data/a.ts", "webgpu")).toBeDefined();
  expect(wrongArrow("plugins/x/index.ts", "qlora/kernels")).toBeUndefined();
  expect(wrongArrow("plugins/x/index.ts", "qlora")).toBeDefined();
  expect(wrongArrow("kernels/x/index.ts", "qlora/plugins")).toContain("plugins/index.ts");
  expect(wrongArrow("core/x.ts", "qlora")).toContain("core/x.ts imports index.ts");
  expect(wrongArrow("core/device/a.ts", "../compute/tape.ts")).toContain("compute comes after device");
  expect(wrongArrow("runtime/run/a.ts", "../data/pack.ts")).toBeUndefined();
  expect(wrongArrow("runtime/other/a.ts", "../data/pack.ts")).toContain("no place for other");
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
const READERS = ["runtime/files/folder.ts"];

test("nothing but runtime/files/disk.ts writes a disk", async () => {
  const stray: string[] = [];
  for (const file of new Bun.Glob("{core,cli,kernels,plugins,runtime,sdk}/**/*.ts").scanSync(root)) {
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
