/** Finds the @example blocks of doc comments and makes files of them. */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";

const root = join(import.meta.dir, "../..");
const ENTRIES = {
  qlora: "index.ts",
  "qlora/core": "core/index.ts",
  "qlora/plugins": "plugins/index.ts",
  "qlora/kernels": "kernels/index.ts",
  "qlora/testing": "testing/index.ts",
};

/** One example. */
export interface DocExample {
  /** `runtime/config/loss.ts, example 1`. */
  readonly name: string;
  readonly file: string;
  readonly code: string;
}

/** Every example of a file's doc comments, in order. */
export function examplesOf(file: string, text: string): DocExample[] {
  const found: DocExample[] = [];
  for (const [, body] of text.matchAll(/\/\*\*([\s\S]*?)\*\//g)) {
    const lines = body!.replaceAll(/^[ \t]*\* ?/gm, "");
    for (const [, code] of lines.matchAll(
      /@example\b([\s\S]*?)(?=^@(?:returns|throws|param)\b|@example\b|$(?![\s\S]))/gm,
    ))
      found.push({ name: `${file}, example ${found.length + 1}`, file, code: code!.trim() });
  }
  return found;
}

/** Every example of the package's source. */
export function docExamples(): DocExample[] {
  const files = ["index.ts", ...new Bun.Glob("{core,kernels,plugins,testing}/**/*.ts").scanSync(root)].sort();
  return files.flatMap((file) => examplesOf(file, readFileSync(join(root, file), "utf8")));
}

/** Names that a file exports; true for those that are types. */
function exportsOf(file: string): Map<string, boolean> {
  const text = readFileSync(join(root, file), "utf8").replaceAll(/\/\*[\s\S]*?\*\//g, "");
  const names = new Map<string, boolean>();
  for (const [, all, list] of text.matchAll(/^export (type )?\{([^}]*)\}/gm)) {
    for (const part of list!
      .split(",")
      .map((word) => word.trim())
      .filter((word) => word !== "")) {
      const name = part
        .replace(/^type /, "")
        .split(" as ")
        .at(-1)!;
      names.set(name, all !== undefined || part.startsWith("type "));
    }
  }
  for (const [, kind, name] of text.matchAll(/^export (?:async )?(function\*?|const|class|interface|type) (\w+)/gm))
    names.set(name!, kind === "interface" || kind === "type");
  return names;
}

const FRAGMENT = /^(task|model|adapter|optimizer|metrics|loss|data|training): /;

/** The example as a module with a function `example`; names it uses are imported from the entry points and the prelude. */
export function exampleModule({ code, file }: DocExample, folder: string): string {
  const used = new Set(code.match(/[A-Za-z_]\w*/g));
  const path = (to: string): string => relative(folder, join(root, to)).replace(/^(?!\.)/, "./");
  const sources = [
    ["prelude", path("tests/docs/prelude.ts"), exportsOf("tests/docs/prelude.ts")],
    ...Object.entries(ENTRIES).map(([entry, at]) => [entry, entry, exportsOf(at)] as const),
    ["own", path(file), exportsOf(file)],
  ] as const;
  const taken = new Set<string>();
  const imports = sources.flatMap(([, from, names]) => {
    const chosen = [...names].filter(([name]) => used.has(name) && !taken.has(name));
    for (const [name] of chosen) taken.add(name);
    const list = chosen.map(([name, isType]) => (isType ? `type ${name}` : name));
    return list.length === 0 ? [] : [`import { ${list.join(", ")} } from ${JSON.stringify(from)};`];
  });
  const body = FRAGMENT.test(code)
    ? `defineConfig({ ...config.input,\n${code}\n});`
    : code
        .replaceAll(/^export default (.*)$/gm, "void ($1")
        .replaceAll(/^void \((.*);$/gm, "void ($1);")
        .replaceAll(/^export /gm, "");
  const own = body.split("\n").filter((line) => line.startsWith("import "));
  const rest = body.split("\n").filter((line) => !line.startsWith("import "));
  if (FRAGMENT.test(code)) {
    if (!taken.has("defineConfig")) imports.push('import { defineConfig } from "qlora";');
    if (!taken.has("config")) imports.push(`import { config } from ${JSON.stringify(path("tests/docs/prelude.ts"))};`);
  }
  return [...imports, ...own, "", "export async function example(): Promise<void> {", ...rest, "}", ""].join("\n");
}
