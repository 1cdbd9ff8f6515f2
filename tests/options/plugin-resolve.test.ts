import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PluginError } from "../../core/errors.ts";
import { resolvePlugin } from "../../core/plugin-resolve.ts";
import type { PluginKind } from "../../core/plugin-value.ts";
import { adamW, lora, shipped } from "../cli/fixtures/plugins.ts";

const root = join(import.meta.dir, "../..");
const head = `
  import { defineOptions, option } from ${JSON.stringify(join(root, "core/options.ts"))};
  import { definePlugin } from ${JSON.stringify(join(root, "core/plugin-value.ts"))};
  const make = (kind, name) => definePlugin(kind, { name, options: defineOptions({}), create() {} });
`;
let from = "";

beforeAll(() => {
  from = mkdtempSync(join(tmpdir(), "qlora-plugins-"));
  const install = (name: string, body: string): void => {
    const folder = join(from, "node_modules", name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), JSON.stringify({ name, type: "module", exports: "./index.js" }));
    writeFileSync(join(folder, "index.js"), head + body);
  };
  install("qlora-plugin-dora", 'export const dora = make("adapter", "dora");');
  install("@me/adapters", 'export const a = make("adapter", "a"); export const b = make("adapter", "b");');
  install("plain-name", 'export default make("metric", "plain");');
  install("no-plugin", 'export const optimizer = make("optimizer", "x"); export const answer = 42;');
  writeFileSync(join(from, "mine.ts"), `${head} export const mine = make("model", "mine"); export default mine;`);
  writeFileSync(join(from, "broken.ts"), 'throw new Error("out of cheese");');
});
afterAll(() => rmSync(from, { recursive: true, force: true }));

const nameOf = async (kind: PluginKind, spec: string): Promise<string> =>
  (await resolvePlugin(kind, spec, { shipped, from })).name;

async function errorOf(kind: PluginKind, spec: string): Promise<PluginError> {
  const error: unknown = await resolvePlugin(kind, spec, { shipped, from }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(PluginError);
  return error as PluginError;
}

test("shipped names, packages with and without the prefix, scoped packages, files", async () => {
  expect(await resolvePlugin("adapter", "lora", { shipped, from })).toBe(lora as never);
  expect(await resolvePlugin("optimizer", "adamw", { shipped, from })).toBe(adamW as never);
  expect(await nameOf("adapter", "dora")).toBe("dora");
  expect(await nameOf("adapter", "qlora-plugin-dora")).toBe("dora");
  expect(await nameOf("metric", "plain-name")).toBe("plain");
  expect(await nameOf("adapter", "@me/adapters#b")).toBe("b");
  expect(await nameOf("model", "./mine.ts")).toBe("mine"); // exported twice, but one plugin
  expect(await nameOf("model", join(from, "mine.ts"))).toBe("mine");
});

test("errors say which package, which exports, and what was expected", async () => {
  const missing = await errorOf("adapter", "loar");
  expect(missing.message).toBe(
    '--adapter loar: no shipped adapter has this name and no package qlora-plugin-loar or loar is installed; did you mean "lora"?',
  );
  expect((await errorOf("optimizer", "lora")).message).toBe(
    "--optimizer lora: lora is an adapter, expected an optimizer",
  );
  const several = await errorOf("adapter", "@me/adapters");
  expect(several.message).toEndWith(
    "exports a (an adapter), b (an adapter); expected one adapter; pick one with @me/adapters#NAME",
  );
  const other = await errorOf("adapter", "no-plugin");
  expect(other.message).toMatch(
    /^--adapter no-plugin: file:.*no-plugin\/index\.js exports answer \(number\), optimizer \(an optimizer\); expected an export made with defineAdapter$/,
  );
  expect((await errorOf("adapter", "@me/adapters#c")).message).toEndWith(
    "expected the export c made with defineAdapter",
  );
  expect((await errorOf("model", "./broken.ts")).message).toEndWith("broken.ts does not load: out of cheese");
  expect((await errorOf("model", "./none.ts")).message).toContain("none.ts does not load");
});
