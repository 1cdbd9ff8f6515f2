/** A plugin that brings a copy of qlora of its own works in a run of another copy, and its errors are told as ours. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { tiers } from "../support/gpu.ts";
import { installPacked, type Outside, tinyRunFlags } from "../support/packed.ts";

let outside: Outside;
let copy = "";

/** SGD of the plugin's own copy, under another name; options and errors are that copy's too. */
const SOURCE = `
import { PluginError } from "qlora";
import { defineOptimizer, defineOptions, option } from "qlora/core";
import { sgd } from "qlora/plugins";
const options = defineOptions({ momentum: option("0 <= number < 1", { default: 0, help: "share of the last step" }) });
export const nested = defineOptimizer({
  name: "nested",
  options,
  create({ momentum }, context) {
    if (momentum === 0.5) throw new PluginError("NO_HALF", "nested: momentum 0.5 is not for me", { hint: "Take 0.4." });
    return sgd({ momentum }).create(context);
  },
});
`;

beforeAll(async () => {
  outside = await installPacked();
  const plugin = join(outside.folder, "node_modules", "qlora-plugin-nested");
  mkdirSync(plugin);
  writeFileSync(join(plugin, "package.json"), JSON.stringify({ name: "qlora-plugin-nested", exports: "./index.ts" }));
  writeFileSync(join(plugin, "index.ts"), SOURCE);
  writeFileSync(join(outside.folder, "rows.csv"), demoCsv(24, 3));
  copy = outside.nestCopy(plugin);
}, 60_000);
afterAll(() => outside.remove());

const train = (...flags: readonly string[]) =>
  outside.qlora(
    "train",
    ...tinyRunFlags(outside, "rows.csv", join(outside.folder, "run")),
    "--optimizer",
    "nested",
    ...flags,
  );

test.skipIf(tiers.length === 0)(
  "it trains, and is found again in the run's record",
  async () => {
    const { exit, stderr } = await train("--overwrite-output-dir");
    expect(exit, stderr).toBe(0);
    expect(stderr).toContain("2 steps, train loss");
    const { config } = JSON.parse(readFileSync(join(outside.folder, "run/run.json"), "utf8")) as {
      config: { optimizer: object };
    };
    expect(config.optimizer).toEqual({ name: "nested", options: { momentum: 0 }, from: "nested" });
  },
  240_000,
);

test("wrong options and errors of its copy are told in one sentence, with the exit code of ours", async () => {
  const wrong = await train("--optimizer.momentum", "5");
  expect(wrong.exit).toBe(2);
  expect(wrong.stderr).toContain('--optimizer.momentum: got "5", expected');
  expect(wrong.stderr).not.toContain("at "); // no stack
  if (tiers.length === 0) return;
  const own = await train("--optimizer.momentum", "0.5", "--overwrite-output-dir");
  expect(own.exit).toBe(2);
  expect(own.stderr).toContain("nested: momentum 0.5 is not for me");
  expect(own.stderr).toContain("Take 0.4.");
  expect(own.stderr).not.toContain("at create");
}, 120_000);

test("one made with another major version of its copy is refused", async () => {
  const path = join(copy, "package.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as { version: string };
  writeFileSync(path, JSON.stringify({ ...manifest, version: "7.1.0" }));
  const { exit, stderr } = await train();
  writeFileSync(path, JSON.stringify(manifest));
  expect(exit).toBe(2);
  expect(stderr).toContain(
    `--optimizer nested: nested was made with qlora 7.1.0, this is qlora ${manifest.version}; expected`,
  );
}, 60_000);
