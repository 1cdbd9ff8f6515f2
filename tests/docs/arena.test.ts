/** docs/arena.md, block by block in one folder: every command runs, and prints what the page says. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { softwareAdapter, tiers } from "../support/gpu.ts";
import { prepareArena } from "./arena-data.ts";
import { differingLines, docsFolder, readBlocks, runShell } from "./blocks.ts";

const blocks = readBlocks(readFileSync(join(import.meta.dir, "../../docs/arena.md"), "utf8"));
const named = blocks.map(
  (block, i) => [`${i + 1}: ${block.code.trim().split("\n").at(-1)!.slice(0, 60)}`, block] as const,
);

/** The page's numbers were printed by lavapipe; another device rounds otherwise, which moves a row of sixteen. */
const otherDevice = !(await softwareAdapter());
if (otherDevice)
  console.error("docs/arena.md: its numbers are lavapipe's, this is another device: decimals are MASKED");

describe.skipIf(tiers.length === 0)("docs/arena.md", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await docsFolder("arena");
    await prepareArena(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(named)(
    "block %s",
    async (_, { language, code, output }) => {
      if (language === "ts") {
        // The first line of a file's block is its name.
        await writeFileAtomic(join(folder, /^\/\/ (\S+)\n/.exec(code)![1]!), code);
        return;
      }
      expect(language).toBe("sh");
      const { out, exit } = await runShell(code, folder);
      expect({ exit, out }).toEqual({ exit: 0, out });
      if (output !== undefined) expect(differingLines(out, output, { otherDevice })).toEqual([]);
    },
    300_000,
  );

  test("what the page says of files", () => {
    for (const name of ["output/fold/report.html", "output/merged/model.safetensors", "submission.csv", "fold.csv"])
      expect(existsSync(join(folder, name)), name).toBe(true);
    const ids = (name: string): string[] => readFileSync(join(folder, name), "utf8").match(/^\d+(?=,)/gm)!;
    expect(ids("submission.csv")).toEqual(ids("test.csv"));
    expect(ids("submission.csv")).toHaveLength(24);
  });
});

describe("comparing what was printed", () => {
  const want = "step 2/4  loss 0.9360  6.38 samples/s  ETA 0:03\n...\n32 rows\n";
  const cases: readonly (readonly [string, string, number])[] = [
    ["speeds differ, a loss in its fourth digit", "step 2/4  loss 0.9361  1.1 samples/s  ETA ?\nx\ny\n32 rows\n", 0],
    ["another loss", "step 2/4  loss 0.9960  6.38 samples/s  ETA 0:03\n32 rows", 1],
    ["another count", "step 2/4  loss 0.9360  6.38 samples/s  ETA 0:03\n31 rows", 1],
    ["another step", "step 3/4  loss 0.9360  6.38 samples/s  ETA 0:03\n32 rows", 1],
    ["a word more", "step 2/4  loss 0.9360  6.38 samples/s  ETA 0:03 oh\n32 rows", 1],
    [
      "progress is told where it is slow",
      "evaluating 8/16  ETA 0:02\nevaluating, A and B exchanged 8/16\nstep 2/4  loss 0.9360  1 samples/s  ETA ?\n32 rows",
      0,
    ],
    ["a line more at the end", "step 2/4  loss 0.9360  6.38 samples/s  ETA 0:03\n32 rows\nwarning", 1],
  ];
  test.each(cases)("%s", (_, got, problems) => {
    expect(differingLines(got, want)).toHaveLength(problems);
  });

  const page = "samples        16\neval_accuracy  0.6875\noutput/fold  6/6  0.6675*  68.8 %  finished\n";
  const elsewhere: readonly (readonly [string, string, number])[] = [
    [
      "decimals and the best of a column differ, placement is told",
      "memory: dequantized weights kept\nsamples 16\neval_accuracy  0.75\noutput/fold  6/6  0.6672  75.0 %*  finished\n",
      0,
    ],
    ["another count", page.replace("16", "15"), 1],
    ["another step", page.replace("6/6", "5/6"), 1],
    ["no number", page.replace("0.6875", "NaN"), 1],
    ["another word", page.replace("finished", "stopped"), 1],
  ];
  test.each(elsewhere)("on another device: %s", (_, got, problems) => {
    expect(differingLines(got, page, { otherDevice: true })).toHaveLength(problems);
  });
});
