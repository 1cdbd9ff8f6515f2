/** docs/shipped-plugins.md: every plugin has its part, its options and defaults are the schema's, what it names exists. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as core from "../../core/index.ts";
import * as qlora from "../../index.ts";
import * as kernels from "../../kernels/index.ts";
import { optionSets, SHIPPED_PLUGINS, withOptionTables } from "../../scripts/api-docs/option-tables.ts";
import * as testing from "../../testing/index.ts";

const root = join(import.meta.dir, "../..");
const text = readFileSync(join(root, SHIPPED_PLUGINS), "utf8");

test("every shipped plugin is described, and every option of it stands in a table", () => {
  for (const [name, options] of optionSets()) {
    if (name === "training") continue;
    expect(text).toMatch(new RegExp(`^### ${name}$|^\\| \`${name}\` `, "m"));
    const part = text.split(`<!-- options ${name} -->`)[1]?.split("<!-- /options -->")[0] ?? "";
    const rows = [...part.matchAll(/^\| `(\w+)` +\| .* \|$/gm)].map(([, key]) => key!);
    expect(rows, name).toEqual(Object.keys(options.shape));
  }
});

test("the tables are those of the schemas; `bun run docs` makes them so", () => {
  expect(withOptionTables(text)).toBe(text);
  expect(withOptionTables(text.replace(/(`rank` .*)`8`/, "$1`9`"))).toBe(text);
  expect(text).toMatch(/^\| `rank` +\| an integer >= 1 +\| `8` /m);
  expect(() => withOptionTables("<!-- options lor -->\n<!-- /options -->")).toThrow("no shipped plugin is called lor");
});

test("files, tests and links that it names are there", () => {
  const named = [...text.matchAll(/`((?:core|tests|kernels)\/[\w./-]+\.ts)`/g)].map(([, path]) => path!);
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, path]) => join("docs", path!));
  expect(named.length).toBeGreaterThan(10);
  for (const path of [...named, ...links]) expect(existsSync(join(root, path)), path).toBe(true);
});

test("files and folders that CONTRIBUTING.md names are there", () => {
  const contributing = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
  const named = [...contributing.matchAll(/`((?:core|kernels|plugins|testing|tests|docs|cli)\/[\w./-]*)`/g)].map(
    (found) => found[1]!,
  );
  expect(named.length).toBeGreaterThan(20);
  for (const path of named.filter((name) => !name.startsWith("kernels/x/") && name !== "tests/kernels/x.test.ts"))
    expect(existsSync(join(root, path)), path).toBe(true);
});

test("exports that it says core gained are exports", () => {
  const [, list] = text.split("## What each proof needed");
  const all = { ...core, ...kernels, ...testing, ...qlora };
  for (const name of `eachRow predictedClass ConfusionMatrix softmaxRows slabRuns SavedStateReader createDynamicMap nearestCode
    SlabState adamWStep adamWScalars optimizerContract OptimizerBench adapterFiles loadAdapterTensors scaleColumns
    addScaled addBias addResidual ModelConfigReader loadTokenTable defineLoss crossEntropySoft`.split(/\s+/)) {
    expect(list).toContain(`\`${name}\``);
    expect(Object.keys(all)).toContain(name);
  }
});
