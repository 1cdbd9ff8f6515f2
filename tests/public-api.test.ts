import { expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";
import type { PluginKind } from "../core/plugin/check.ts";
import { isPluginFactory } from "../core/plugin/factory.ts";
import * as plugins from "../plugins/index.ts";
import { resolvePlugin } from "../runtime/config/resolve.ts";
import { importsOf } from "./support/imports.ts";

const root = join(import.meta.dir, "..");

/** Shipped plugins that stand where a third party stands: they may use what the package exports and nothing else. */
const PUBLIC_ONLY = [
  "adafactor",
  "auc",
  "brier",
  "confusion",
  "dora",
  "ece",
  "f1",
  "ia3",
  "lion8bit",
  "llama",
  "mcc",
  "muon",
  "sgd",
] as const;

/** What is no metric. */
const KINDS: Readonly<Record<string, PluginKind>> = {
  adafactor: "optimizer",
  dora: "adapter",
  ia3: "adapter",
  lion8bit: "optimizer",
  llama: "model",
  muon: "optimizer",
  sgd: "optimizer",
};

const ENTRY_POINTS = ["qlora", "qlora/kernels", "qlora/plugins"];

/** Why a plugin's file may not import `specifier`, or undefined where it may. */
function privateImport(file: string, specifier: string): string | undefined {
  if (ENTRY_POINTS.includes(specifier) || specifier.startsWith("node:")) return undefined;
  const [, plugin] = file.split("/");
  const inside =
    specifier.startsWith(".") && normalize(join(dirname(file), specifier)).startsWith(`plugins/${plugin}/`);
  return inside ? undefined : `${file} imports ${specifier}`;
}

test("plugins shipped as proof import the public entry points and their own files only", async () => {
  const problems: string[] = [];
  for (const plugin of PUBLIC_ONLY) {
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
  for (const name of PUBLIC_ONLY) {
    const kind = KINDS[name] ?? "metric";
    const factory = await resolvePlugin(kind, name, { shipped, from: root });
    expect(factory.configure(kind === "model" ? { checkpoint: "folder" } : {})).toMatchObject({ kind, name });
  }
});

test("a private import is seen", () => {
  expect(privateImport("plugins/auc/index.ts", "qlora/kernels")).toBeUndefined();
  expect(privateImport("plugins/auc/deep/a.ts", "../rank.ts")).toBeUndefined();
  for (const specifier of [
    "../../core/plugin/kinds.ts",
    "../f1/index.ts",
    "qlora/core/plugin/kinds.ts",
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
