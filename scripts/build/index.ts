/**
 * `bun run build`: writes dist/, which Node, Deno and the TypeScript compiler read in place of the sources: JavaScript with
 * shaders, styles and page scripts in it, and declarations in dist/types. `--if-stale` does nothing where that is done.
 */
import * as esbuild from "esbuild";
import type { Plugin } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

const root = join(import.meta.dir, "../..");
const dist = join(root, "dist");
const STAMP = join(root, ".cache/build.sha256");

/** Folders whose files a build depends on. */
const SOURCES = ["core", "kernels", "plugins", "runtime", "sdk", "testing", "web", "scripts/build"];

/** Entries of the package by the name of their file in dist/; all lie flat, where `../assets` is the same as from the sources. */
const ENTRIES: Readonly<Record<string, string>> = {
  index: "index.ts",
  core: "core/index.ts",
  kernels: "kernels/index.ts",
  plugins: "plugins/index.ts",
  testing: "testing/index.ts",
  "tokenizer-worker": "runtime/data/tokenizer-worker.ts",
};

/** Files that a build depends on, from the root. */
export function sourceFiles(): readonly string[] {
  const inside = SOURCES.flatMap((folder) => [...new Bun.Glob(`${folder}/**/*`).scanSync(root)]);
  return [...inside, "index.ts", "wgsl.d.ts", "tsconfig.json", "package.json", "bun.lock"].toSorted();
}

async function sourceHash(): Promise<string> {
  const hash = createHash("sha256");
  for (const file of sourceFiles()) hash.update(`${file}\n`).update(await readFile(join(root, file)));
  return hash.digest("hex");
}

/** `import code from "./x.wgsl" with { type: "text" }`, which esbuild leaves to a plugin. */
const textImports: Plugin = {
  name: "text",
  setup(bundler) {
    bundler.onLoad({ filter: /\.(wgsl|css|js)$/ }, async ({ path, with: { type } }) =>
      type === "text" ? { contents: await readFile(path, "utf8"), loader: "text" } : undefined,
    );
  },
};

async function bundle(): Promise<void> {
  const shared = {
    absWorkingDir: root,
    outdir: dist,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    logLevel: "error",
  } as const;
  await esbuild.build({ ...shared, entryPoints: { polyfills: "scripts/build/polyfills.ts" }, minify: true });
  await esbuild.build({
    ...shared,
    entryPoints: ENTRIES,
    splitting: true,
    keepNames: true, // errors are known by the names of their classes
    external: Object.keys(ENTRIES).map((name) => (name === "index" ? "qlora" : `qlora/${name}`)),
    packages: "external",
    plugins: [textImports],
    banner: { js: 'import "./polyfills.js";' },
    chunkNames: "chunk-[hash]",
  });
}

/** What the page's script holds beside qlora, whose license is in the package. */
const BUNDLED =
  "with @huggingface/tokenizers (Apache-2.0), arktype (MIT), @petamoriken/float16 (MIT) and core-js (MIT)";

/** The page that judges in a browser (`qlora export web`): one script without imports, its markup and its style. */
async function bundlePage(): Promise<void> {
  const page = join(root, "web/page");
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: { judge: "web/page/main.ts" },
    outdir: join(dist, "web"),
    bundle: true,
    minify: true,
    keepNames: true,
    format: "esm",
    platform: "browser",
    conditions: ["bun"], // the package's own entries are the sources
    target: ["chrome113", "firefox141", "safari26"],
    legalComments: "eof",
    banner: { js: `/*! ${BUNDLED} */` },
    logLevel: "error",
    plugins: [textImports],
  });
  for (const file of ["index.html", "judge.css"])
    await writeFile(join(dist, "web", file), await readFile(join(page, file)));
}

/**
 * Declarations as the compiler writes them import `.ts` files, or files without an ending; their readers want `.js`. WebGPU's types
 * come with the compiler (lib "dom") or from @webgpu/types, and both at once clash: an empty interface of each name that is used
 * becomes either, and leaves whoever has neither without errors.
 */
async function declare(): Promise<void> {
  const types = join(dist, "types");
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { exitCode, stdout } = Bun.spawnSync([process.execPath, tsc, "-p", join(import.meta.dir, "tsconfig.json")]);
  if (exitCode !== 0) throw new Error(`tsc failed:\n${stdout.toString()}`);
  const entries = new Set(Object.values(ENTRIES).map((file) => file.replace(/\.ts$/, ".d.ts")));
  const gpu = new Set<string>();
  for (const name of await readdir(types, { recursive: true })) {
    if (!name.endsWith(".d.ts")) continue;
    const path = join(types, name);
    const text = (await readFile(path, "utf8"))
      .replaceAll(/^\/\/\/ <reference [^\n]*\n/gm, "")
      .replaceAll(/((?:from|import\(|import) ?")(\.{1,2}\/[^"]+?)(?:\.[jt]s)?"/g, '$1$2.js"')
      .replaceAll(/(?<=[:<|] ?)Buffer\b/g, "Uint8Array"); // which it is, and needs no types of Node's
    for (const [type] of text.matchAll(/\bGPU[A-Z]\w+/g)) gpu.add(type);
    const up = relative(dirname(path), types) || ".";
    const head = `/// <reference lib="esnext" />\n/// <reference path="${up}/globals.d.ts" />\n`;
    await writeFile(path, entries.has(name) ? head + text : text);
  }
  const shaders = await readFile(join(root, "wgsl.d.ts"), "utf8");
  const interfaces = [...gpu].toSorted().map((name) => `interface ${name} {}\n`);
  await writeFile(join(types, "globals.d.ts"), [...interfaces, shaders].join(""));
}

/** Writes dist/ anew. @throws Error where the bundler or the compiler fails */
export async function build(): Promise<void> {
  await rm(dist, { recursive: true, force: true });
  await bundle();
  await bundlePage();
  await declare();
  await mkdir(dirname(STAMP), { recursive: true });
  await writeFile(STAMP, await sourceHash());
}

/** Writes dist/ where it is missing or of other sources. */
export async function buildIfStale(): Promise<void> {
  const made = await readFile(STAMP, "utf8").catch(() => "");
  const there = await Bun.file(join(dist, "types/index.d.ts")).exists();
  if (!there || made !== (await sourceHash())) await build();
}

if (import.meta.main) await (process.argv.includes("--if-stale") ? buildIfStale() : build());
