/** docs/checkpoints.md: every command runs, and prints what the page says. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { tiers } from "../support/gpu.ts";
import { goldenPath } from "../support/reference.ts";
import { differingLines, docsFolder, readBlocks, runShell } from "./blocks.ts";

const blocks = readBlocks(readFileSync(join(import.meta.dir, "../../docs/checkpoints.md"), "utf8"));

describe.skipIf(tiers.length === 0)("docs/checkpoints.md", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await docsFolder("checkpoints");
    await cp(goldenPath("turn2", "tiny-qwen3-bf16"), join(folder, "qwen3-bf16"), { recursive: true });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(blocks.map(({ code, output }) => [code.split("\n")[0]!, code, output] as const))(
    "%s",
    async (_, code, output) => {
      const { out, exit } = await runShell(code, folder);
      expect({ exit, out }).toEqual({ exit: 0, out });
      expect(output).toBeString();
      expect(differingLines(out, output!)).toEqual([]);
    },
    120_000,
  );
});
