/** `npm run demo` after set-up: what it trains, evaluates and predicts reaches what the README says. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { tiers } from "../support/gpu.ts";
import { temporaryFolder } from "../support/run.ts";

test.skipIf(tiers.length === 0)(
  "the demo learns its task",
  async () => {
    await using folder = await temporaryFolder();
    const demo = join(import.meta.dir, "../../demo/run.ts");
    const child = Bun.spawn([process.execPath, demo], {
      cwd: folder.path,
      stdout: "pipe",
      stderr: "pipe",
      stdin: "ignore",
    });
    const [out, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect(await child.exited, said).toBe(0);
    const accuracy = Number(/^eval_accuracy\s+(\S+)/m.exec(out)?.[1]);
    console.log(`demo: evaluation accuracy ${accuracy}; ${/Done in .*/.exec(said)?.[0]}`);
    expect(accuracy).toBeGreaterThan(0.9);
    const lines = readFileSync(join(folder.path, "output/demo/predictions.csv"), "utf8").trim().split("\n");
    expect(lines.length).toBe(601);
    expect(lines[0]).toBe("id,winner_model_a,winner_model_b,winner_tie");
    for (const name of [
      "report.html",
      "adapter_model.safetensors",
      "adapter_config.json",
      "run.json",
      "trainer_state.json",
    ]) {
      expect(existsSync(join(folder.path, "output/demo/run", name)), name).toBe(true);
    }
  },
  300_000,
);
