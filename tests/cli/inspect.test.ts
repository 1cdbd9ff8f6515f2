import { expect, test } from "bun:test";
import { join } from "node:path";
import { writeJson } from "../../runtime/folder/folder.ts";
import { syntheticConfigJson } from "../../sdk/shapes.ts";
import { temporaryFolder } from "../support/run.ts";

test("inspect on the 9B shape ends with peft's line", async () => {
  await using folder = await temporaryFolder();
  await writeJson(join(folder.path, "config.json"), syntheticConfigJson("gemma2-9b"));
  const cli = join(import.meta.dir, "../../cli/main.ts");
  const flags = [
    "--model.checkpoint",
    folder.path,
    "--adapter.rank",
    "64",
    "--adapter.target-modules",
    "q_proj,k_proj,v_proj,o_proj,gate_proj",
  ];
  const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, cli, "inspect", ...flags]);
  expect(exitCode, stderr.toString()).toBe(0);
  const lines = stdout.toString().trimEnd().split("\n");
  // What peft prints for the notebook's model.
  expect(lines.at(-1)).toBe("trainable params: 119,745,024 || all params: 9,361,461,760 || trainable%: 1.2791");
}, 60_000);
