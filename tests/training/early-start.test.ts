import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { train } from "../../index.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe.skipIf(tiers.length === 0)("training", () => {
  test("starts before the last row is tokenized", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const training = { maxSteps: 1, overwriteOutputDir: true };
    // Compiled and in the driver's cache: what follows times tokenizing alone.
    await train(await smallRun(folder.path, { device, training }));
    const file = join(folder.path, "many.csv");
    const words = "more words to tokenize ".repeat(12);
    await writeFileAtomic(file, demoCsv(12_000, 5).replaceAll('[""', `[""${words}`));
    const seen: string[] = [];
    const data = { trainFiles: [file], nSplits: 1000 };
    await train(await smallRun(folder.path, { device, training, data }), {
      onEvent(event) {
        seen.push(event.type === "info" && event.message.startsWith("train data:") ? "tokenized" : event.type);
      },
    });
    expect(seen).toContain("tokenized");
    expect(seen.indexOf("step")).toBeLessThan(seen.indexOf("tokenized"));
  }, 112_000);
});
