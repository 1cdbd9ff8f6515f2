/**
 * Two packages written from docs/plugins.md alone, in an empty folder with the packed project installed: the optimizer Adan and
 * the metric kappa. They pass their tests there and are used by name.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { tiers } from "../support/gpu.ts";
import { typescriptCompiler } from "../support/packages.ts";
import { installPacked, type Outside, runIn, tinyRunFlags } from "../support/packed.ts";

const PACKAGES = [
  { kind: "optimizer", name: "qlora-plugin-adan" },
  { kind: "metric", name: "qlora-plugin-kappa" },
] as const;
const compiler = typescriptCompiler();
let outside: Outside;

beforeAll(async () => {
  outside = await installPacked();
  writeFileSync(join(outside.folder, "rows.csv"), demoCsv(24, 3));
  for (const { kind, name } of PACKAGES) {
    expect(await outside.qlora("plugin", "new", kind, name)).toMatchObject({ exit: 0 });
    cpSync(join(import.meta.dir, "outsider", name), join(outside.folder, name), { recursive: true });
    symlinkSync(join(outside.folder, name), join(outside.folder, "node_modules", name));
  }
}, 60_000);
afterAll(() => outside.remove());

for (const { name } of PACKAGES) {
  test.skipIf(compiler === undefined)(
    `${name} typechecks`,
    async () => {
      const ran = await runIn(join(outside.folder, name), [process.execPath, compiler!, "-p", "."]);
      expect(ran).toEqual({ exit: 0, stdout: "", stderr: "" });
    },
    120_000,
  );

  test(`${name} passes its tests`, async () => {
    const folder = join(outside.folder, name);
    const { exit, stderr } = await runIn(folder, [process.execPath, "test", "--timeout", "60000"]);
    expect(exit, stderr).toBe(0);
    expect(stderr).toMatch(/^ *\d\d pass$/m);
  }, 120_000);
}

test.skipIf(tiers.length === 0)(
  "a metric that only the config file knows is found again by eval",
  async () => {
    writeFileSync(
      join(outside.folder, "zero.ts"),
      `import { defineMetric, defineOptions } from "qlora/core";
export const zero = defineMetric({ name: "zero", options: defineOptions({}), create: () => ({ add() {}, result: () => ({ zero: 0 }) }) });`,
    );
    writeFileSync(
      join(outside.folder, "own.config.ts"),
      `import { defineConfig } from "qlora";
import { adamW8bit, gemma2, logLoss, lora } from "qlora/plugins";
import { tinyCheckpoint } from "qlora/testing";
import { zero } from "./zero.ts";
export default defineConfig({
  model: gemma2({ checkpoint: tinyCheckpoint }), adapter: lora(), optimizer: adamW8bit(), metrics: [logLoss(), zero()],
});`,
    );
    const run = join(outside.folder, "own");
    const flags = tinyRunFlags(outside, "rows.csv", run);
    const trained = await outside.qlora("train", "--config", "own.config.ts", ...flags);
    expect(trained.exit, trained.stderr).toBe(0);
    // The record names a file, which a record from elsewhere could too.
    const refused = await outside.qlora("eval", run, "--json");
    expect(refused.exit).toBe(2);
    expect(refused.stderr).toContain(`would run the file ${join(outside.folder, "own.config.ts")}`);
    const { exit, stdout, stderr } = await outside.qlora("eval", run, "--json", "--trust-remote-code");
    expect(exit, stderr).toBe(0);
    expect((JSON.parse(stdout) as { metrics: object }).metrics).toMatchObject({ eval_zero: 0 });
    const { config } = JSON.parse(readFileSync(join(run, "run.json"), "utf8")) as {
      config: { optimizer: object; metrics: readonly object[] };
    };
    expect(config.optimizer).not.toHaveProperty("from");
    expect(config.metrics[1]).toMatchObject({ name: "zero", from: `${join(outside.folder, "own.config.ts")}#zero` });
  },
  120_000,
);

test.skipIf(tiers.length === 0)(
  "both are used by name",
  async () => {
    const flags = tinyRunFlags(outside, "rows.csv", join(outside.folder, "run"));
    const own = ["--optimizer", "adan", "--optimizer.weight-decay", "0.02", "--metrics", "log-loss,kappa"];
    const { exit, stdout, stderr } = await outside.qlora(
      "train",
      ...flags,
      ...own,
      "--eval-strategy",
      "epoch",
      "--json",
    );
    expect(exit, stderr).toBe(0);
    const { metrics } = JSON.parse(stdout) as { metrics: Record<string, number> };
    expect(metrics["eval_kappa"]).toBeNumber();
    expect(Math.abs(metrics["eval_kappa"]!)).toBeLessThanOrEqual(1);
  },
  120_000,
);
