/** `qlora plan` as a user calls it, for a card that is not here. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";

const main = join(import.meta.dir, "../../cli/main.ts");

function qlora(...args: readonly string[]): { readonly code: number; readonly out: string; readonly said: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, main, "plan", ...args]);
  return { code: exitCode, out: stdout.toString(), said: stderr.toString() };
}

const NINE = ["--shape", "gemma2-9b", "--on", "nvidia", "--adapter.rank", "64", "--per-device-train-batch-size", "2"];

describe("qlora plan", () => {
  test("prints the three modes and fails where the chosen one does not fit", () => {
    const fits = qlora(...NINE, "--memory-budget", "40GiB");
    expect(fits.said).toBe("");
    expect(fits.code).toBe(0);
    expect(fits.out).toMatch(/^lean +42 of 42 +made anew +host +2,048 tokens +[\d.]+ GiB +[\d.]+ GiB +yes$/m);
    expect(fits.out).toMatch(/^auto \* +0 of 42 /m);
    const short = qlora(...NINE, "--memory-budget", "4GiB", "--memory", "lean");
    expect(short.code).toBe(1);
    expect(short.out).toMatch(/^lean: GPU memory is short by [\d.]+ GiB: /m);
  }, 60_000);

  test("--json gives bytes, and a config's settings stay", () => {
    const { out, code } = qlora(
      ...NINE,
      "--gradient-checkpointing",
      "7",
      "--memory-budget",
      "60GiB",
      "--model.embeddings",
      "host",
      "--json",
    );
    expect(code).toBe(0);
    const report = JSON.parse(out) as { blocks: number; modes: { mode: string; plan: { settings: object } }[] };
    expect(report.blocks).toBe(42);
    expect(report.modes.map(({ mode }) => mode)).toEqual(["lean", "auto", "fast"]);
    for (const { plan } of report.modes) expect(plan.settings).toMatchObject({ checkpointing: 7, embeddings: "host" });
  }, 60_000);

  test("a file of lengths that holds none is named", () => {
    const { code, said } = qlora(...NINE, "--lengths", import.meta.path);
    expect(code).toBe(2);
    expect(said).toContain("plan.test.ts is no JSON list of token counts");
  }, 60_000);
});
