/** docs/tasks.md, block by block in one folder: every command runs, and prints what the page says. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { PROBLEM_TYPES, TASKS } from "../../core/plugin/task.ts";
import { TASK_METRICS, taskOptions } from "../../runtime/config/task-options.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { differingLines, docsFolder, readBlocks, runShell } from "./blocks.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/tasks.md"), "utf8");
const blocks = readBlocks(page).map((block) => [block.code.trim().split("\n").at(-1)!.slice(0, 60), block] as const);

describe.skipIf(tiers.length === 0)("docs/tasks.md", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await docsFolder("tasks");
    await cp(tinyCheckpoint, join(folder, "tiny-gemma2-nf4"), { recursive: true });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(blocks)(
    "block %s",
    async (_, { code, output }) => {
      const { out, exit } = await runShell(code, folder);
      expect({ exit, out }).toEqual({ exit: 0, out });
      if (output !== undefined) expect(differingLines(out, output)).toEqual([]);
    },
    300_000,
  );
});

test("the table has every task, with its metrics and its problem_type", () => {
  const rows = page.split("\n").filter((line) => /^\| `[a-z]/.test(line));
  const named = TASKS.filter((task) => taskOptions.check({ task }).ok);
  expect(rows.map((row) => /`([^`]+)`/.exec(row)![1]!)).toEqual([...named]);
  named.forEach((task, i) => {
    for (const metric of TASK_METRICS[task]) expect(rows[i]).toContain(`\`${metric}\``);
    expect(rows[i]).toContain(PROBLEM_TYPES[task] === undefined ? "none" : `\`${PROBLEM_TYPES[task]}\``);
  });
});
