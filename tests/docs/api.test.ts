/** docs/api is what the exports say, every export says something, and the page's search finds it. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import * as qlora from "../../index.ts";
import * as kernels from "../../kernels/index.ts";
import * as plugins from "../../plugins/index.ts";
import { extractApi, installTypeDoc, renderApi, staleFiles } from "../../scripts/api-docs/index.ts";
import { apiProblems, type ApiModule } from "../../scripts/api-docs/model.ts";
import * as testing from "../../testing/index.ts";
import { findChromium, launchChromium } from "../support/chromium.ts";

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
    const entries = { qlora, "qlora/plugins": plugins, "qlora/kernels": kernels, "qlora/testing": testing };
    for (const { name, exports } of modules!) {
      const values = exports.filter(({ kind }) => ["function", "variable", "class"].includes(kind));
      expect(values.map((item) => item.name).sort()).toEqual(Object.keys(entries[name as keyof typeof entries]).sort());
      expect(exports.length).toBeGreaterThan(values.length);
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

const chromium = findChromium();
describe.skipIf(chromium === undefined)("docs/api.html", () => {
  test("finds by words, at the width of a desk and of a phone, and asks for nothing", async () => {
    await using browser = await launchChromium(chromium!);
    for (const view of [
      { width: 1280, height: 900, dark: false },
      { width: 390, height: 800, dark: true },
    ]) {
      const page = await browser.open(`file://${join(import.meta.dir, "../../docs/api.html")}`, view);
      const find = (words: string): Promise<string[]> =>
        page.evaluate(`(() => {
          const box = document.querySelector("#search");
          box.value = ${JSON.stringify(words)};
          box.dispatchEvent(new Event("input"));
          return [...document.querySelectorAll("article")].filter((a) => a.checkVisibility()).map((a) => a.id);
        })()`);
      expect(await find("finite number NaN RMSNORM zhang")).toEqual([]);
      expect(await page.evaluate<boolean>('document.querySelector("#nothing").checkVisibility()')).toBe(true);
      expect(await find("rmsnorm zhang")).toEqual(["qlora.kernels.rmsNorm"]);
      expect((await find("")).length).toBeGreaterThan(300);
      const width = await page.evaluate<number>("document.documentElement.scrollWidth");
      expect(width).toBeLessThanOrEqual(view.width);
      expect(page.problems).toEqual([]);
      expect(page.requests.filter((url) => !url.startsWith("file:") && !url.startsWith("data:"))).toEqual([]);
    }
  }, 60_000);
});
