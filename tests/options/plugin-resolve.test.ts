import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PluginError } from "../../core/errors.ts";
import type { PluginKind } from "../../core/plugin/check.ts";
import { version } from "../../core/util/version.ts";
import { peerProblem, releaseLine, versionProblem } from "../../runtime/config/plugin-version.ts";
import { resolvePlugin, specOf } from "../../runtime/config/resolve.ts";
import { adamW, lora, shipped } from "../cli/fixtures/plugins.ts";

const root = join(import.meta.dir, "../..");
const head = `
  import { defineOptions, option } from ${JSON.stringify(join(root, "core/options/options.ts"))};
  import { definePlugin } from ${JSON.stringify(join(root, "core/plugin/factory.ts"))};
  const make = (kind, name) => definePlugin(kind, { name, options: defineOptions({}), create() {} });
`;
let from = "";

beforeAll(() => {
  from = mkdtempSync(join(tmpdir(), "qlora-plugins-"));
  const put = (folder: string, manifest: object, body: string): void => {
    mkdirSync(folder, { recursive: true });
    const json = { type: "module", version: "2.1.0", exports: "./index.js", ...manifest };
    writeFileSync(join(folder, "package.json"), JSON.stringify(json));
    writeFileSync(join(folder, "index.js"), head + body);
  };
  const install = (name: string, body: string, manifest: object = {}): void =>
    put(join(from, "node_modules", name), { name, ...manifest }, body);
  install("qlora-plugin-dora", 'export const dora = make("adapter", "dora");');
  install("@me/adapters", 'export const a = make("adapter", "a"); export const b = make("adapter", "b");');
  install("plain-name", 'export default make("metric", "plain");');
  install("no-plugin", 'export const optimizer = make("optimizer", "x"); export const answer = 42;');
  const adan = 'export const adan = make("optimizer", "adan");';
  install("@me/qlora-plugin-adan", adan);
  install("qlora-plugin-future", adan, { peerDependencies: { qlora: "^7.0.0" } });
  install("qlora-plugin-fitting", adan, { peerDependencies: { qlora: `^${version}` } });
  install("qlora-plugin-tagged", adan, { peerDependencies: { qlora: "file:../qlora" } });
  install("qlora-plugin-unbuilt", adan, { exports: "./dist/index.js" });
  install(
    "qlora-plugin-other",
    `export const adan = Object.create(make("optimizer", "adan"), { qlora: { value: "7.2.0" } });`,
  );
  install(
    "qlora-plugin-nameless",
    `export const adan = Object.create(make("optimizer", "adan"), { qlora: { value: undefined } });`,
  );
  put(join(from, "qlora-plugin-here"), { exports: { ".": { import: "./index.js" } } }, adan);
  mkdirSync(join(from, "empty"));
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
    /^--adapter no-plugin: .*no-plugin\/index\.js exports answer \(number\), optimizer \(an optimizer\); expected an export made with defineAdapter$/,
  );
  expect((await errorOf("adapter", "@me/adapters#other")).message).toEndWith(
    "expected the export other made with defineAdapter",
  );
  expect((await errorOf("model", "./broken.ts")).message).toEndWith("broken.ts does not load: out of cheese");
  expect((await errorOf("model", "./mnie.ts")).message).toEndWith('mnie.ts does not exist; did you mean "mine.ts"?');
  expect((await errorOf("model", "./empty")).message).toBe(`--model ./empty: ${join(from, "empty")} has no entry file`);
  expect((await errorOf("optimizer", "unbuilt")).message).toEndWith("qlora-plugin-unbuilt has no entry file");
  expect((await errorOf("adapter", "@me/adapters#aa")).message).toEndWith('made with defineAdapter; did you mean "a"?');
  expect((await errorOf("optimizer", "fiting")).message).toBe(
    '--optimizer fiting: no shipped optimizer has this name and no package qlora-plugin-fiting or fiting is installed; did you mean "fitting"?',
  );
  expect((await errorOf("optimizer", "@me/none")).message).toContain(
    "no package @me/none or @me/qlora-plugin-none is installed",
  );
});

test("scoped names with and without the prefix, a package's folder", async () => {
  expect(await nameOf("optimizer", "@me/adan")).toBe("adan");
  expect(await nameOf("optimizer", "@me/qlora-plugin-adan")).toBe("adan");
  expect(await nameOf("optimizer", "./qlora-plugin-here")).toBe("adan");
});

test("a plugin remembers what found it, so that a run's record finds it again", async () => {
  const adan = await resolvePlugin("optimizer", "@me/adan", { shipped, from });
  expect(specOf(adan)).toBe("@me/adan");
  expect(specOf(await resolvePlugin("adapter", "@me/adapters#b", { shipped, from }))).toBe("@me/adapters#b");
  expect(specOf(await resolvePlugin("model", "./mine.ts", { shipped, from }))).toBe(join(from, "mine.ts"));
  expect(specOf(await resolvePlugin("adapter", "lora", { shipped, from }))).toBeUndefined();
});

test("a plugin of another major version is refused in one sentence", async () => {
  expect(await nameOf("optimizer", "fitting")).toBe("adan");
  expect(await nameOf("optimizer", "tagged")).toBe("adan");
  const future = await errorOf("optimizer", "future");
  expect(future.message).toBe(
    `--optimizer future: package qlora-plugin-future 2.1.0 needs qlora ^7.0.0 (peerDependencies), this is qlora ${version}`,
  );
  expect(future.hint).toContain("Install a release of the plugin");
  expect((await errorOf("optimizer", "other")).message).toBe(
    `--optimizer other: adan was made with qlora 7.2.0, this is qlora ${version}; expected ${releaseLine(version)}.x`,
  );
  expect((await errorOf("optimizer", "nameless")).message).toContain("adan carries no version of qlora");
});

test("what counts as another major version", () => {
  expect(versionProblem("1.9.3", "1.2.0")).toBeUndefined();
  expect(versionProblem("2.0.0", "1.2.0")).toBeDefined();
  expect(versionProblem("0.1.9", "0.1.0")).toBeUndefined();
  expect(versionProblem("0.2.0", "0.1.0")).toContain("expected 0.1.x"); // 0.x: every minor version may break
  for (const range of ["^1.0.0", ">=1 <3", "1.x", "1 || 2", "*", undefined, "workspace:*", "latest", "file:../q"])
    expect([range, peerProblem(range, "1.2.0")]).toEqual([range, undefined]);
  for (const range of ["^2.0.0", ">=2", "0.x"]) expect(peerProblem(range, "1.2.0")).toContain(`needs qlora ${range}`);
});
