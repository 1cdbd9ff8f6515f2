/** docs/api is what the exports say, and every export says something. */
import { describe, expect, test } from "bun:test";
import * as core from "../../core/index.ts";
import * as qlora from "../../index.ts";
import * as kernels from "../../kernels/index.ts";
import * as plugins from "../../plugins/index.ts";
import { extractApi, installTypeDoc, renderApi, staleFiles } from "../../scripts/api-docs/index.ts";
import { apiProblems, type ApiModule } from "../../scripts/api-docs/model.ts";
import * as testing from "../../testing/index.ts";

let modules: readonly ApiModule[] | undefined;
try {
  installTypeDoc();
  modules = extractApi();
} catch (error) {
  if (!String(error).includes("install")) throw error;
  console.error(`SKIPPED: TypeDoc cannot be installed in docs/api-generator: ${String(error)}`);
}

describe.skipIf(modules === undefined)("docs/api", () => {
  test("lists what the entry points export at run time, and their types", () => {
    const entries = {
      qlora,
      "qlora/core": core,
      "qlora/plugins": plugins,
      "qlora/kernels": kernels,
      "qlora/testing": testing,
    };
    for (const { name, exports } of modules!) {
      const values = exports.filter(({ kind }) => ["function", "variable", "class"].includes(kind));
      expect(values.map((item) => item.name).sort()).toEqual(Object.keys(entries[name as keyof typeof entries]).sort());
      if (name !== "qlora/plugins") expect(exports.length).toBeGreaterThan(values.length);
    }
  });

  test("has a sentence and a signature for each export", () => {
    expect(apiProblems(modules!)).toEqual([]);
    const [first] = modules!;
    const silent = { ...first!, exports: [{ ...first!.exports[0]!, summary: "" }] };
    expect(apiProblems([silent])).toEqual([expect.stringContaining("has no sentence")]);
    const pathed = { ...first!.exports[0]!, signature: 'const a: import("/home/me/core/options").Option' };
    expect(apiProblems([{ ...first!, exports: [pathed] }])).toEqual([expect.stringContaining("names a file")]);
  });

  test("is up to date; `bun run docs` makes it so", async () => {
    const files = await renderApi(modules!);
    expect(await staleFiles(files)).toEqual([]);
    const [changed] = modules!.map((module) => ({ ...module, summary: `${module.summary} And more.` }));
    expect(await staleFiles(await renderApi([changed!]))).toContain("docs/api/qlora.md");
  });
});
