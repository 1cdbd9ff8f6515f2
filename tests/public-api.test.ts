import { expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";
import { isPluginFactory } from "../core/plugin/factory.ts";
import * as plugins from "../plugins/index.ts";
import { resolvePlugin } from "../runtime/config/resolve.ts";
import { importsOf } from "./support/imports.ts";

const root = join(import.meta.dir, "..");

/** Every shipped plugin stands where a third party's stands: it may use these two entries and its own files. */
const PLUGIN_ENTRIES = ["qlora/core", "qlora/kernels"];
const ENTRY_POINTS = ["qlora", ...PLUGIN_ENTRIES, "qlora/plugins"];

const names = [...new Bun.Glob("plugins/*/index.ts").scanSync(root)].map((path) => path.split("/")[1]!).toSorted();

/** Why a plugin's file may not import `specifier`, or undefined where it may. */
function privateImport(file: string, specifier: string): string | undefined {
  if (PLUGIN_ENTRIES.includes(specifier)) return undefined;
  const [, plugin] = file.split("/");
  const inside =
    specifier.startsWith(".") && normalize(join(dirname(file), specifier)).startsWith(`plugins/${plugin}/`);
  return inside ? undefined : `${file} imports ${specifier}`;
}

test("shipped plugins import qlora/core, qlora/kernels and their own files only", async () => {
  const problems: string[] = [];
  expect(names.length).toBeGreaterThan(15);
  for (const plugin of names) {
    const files = [...new Bun.Glob(`plugins/${plugin}/**/*.ts`).scanSync(root)];
    expect(files).not.toBeEmpty();
    for (const file of files) {
      for (const specifier of importsOf(await Bun.file(join(root, file)).text())) {
        const problem = privateImport(file, specifier);
        if (problem !== undefined) problems.push(problem);
      }
    }
  }
  expect(problems).toEqual([]);
});

test("each is found by its name, as the command line looks it up", async () => {
  const shipped = Object.values(plugins).filter((value) => isPluginFactory(value));
  // What goes around an optimizer is a function of one, and no plugin by itself.
  const wrappers = ["ema"];
  expect([...shipped.map(({ name }) => name), ...wrappers].toSorted()).toEqual(names);
  for (const { kind, name } of shipped) {
    const factory = await resolvePlugin(kind, name, { shipped, from: root });
    expect(factory.configure(kind === "model" ? { checkpoint: "folder" } : {})).toMatchObject({ kind, name });
  }
});

test("a private import is seen", () => {
  expect(privateImport("plugins/auc/index.ts", "qlora/kernels")).toBeUndefined();
  expect(privateImport("plugins/auc/deep/a.ts", "../rank.ts")).toBeUndefined();
  for (const specifier of [
    "../../core/plugin/model.ts",
    "qlora",
    "node:fs",
    "../f1/index.ts",
    "qlora/core/plugin/model.ts",
    "arktype",
    "../aucx/a.ts",
  ]) {
    expect(privateImport("plugins/auc/index.ts", specifier)).toBe(`plugins/auc/index.ts imports ${specifier}`);
  }
});

test("the entry points resolve to the package itself, in any order of import", async () => {
  for (const entries of [
    ENTRY_POINTS,
    ENTRY_POINTS.toReversed(),
    ["./plugins/muon/index.ts"],
    ["./plugins/auc/index.ts", "qlora"],
  ]) {
    const code = `for (const e of ${JSON.stringify(entries)}) { const m = await import(e); if (Object.values(m).includes(undefined)) throw new Error(e); }`;
    const { exitCode, stderr } = Bun.spawnSync([process.execPath, "-e", code], { cwd: root });
    expect(`${exitCode} ${stderr.toString()}`).toBe("0 ");
  }
});
