import { describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { predict, train } from "../../index.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe.skipIf(tiers.length === 0)("predict", () => {
  test("tta swap is the mean of a file and its exchanged copy; a submission wants arena rows", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const config = await smallRun(folder.path, { device, training: { maxSteps: 1 } });
    const { outputDir: run } = await train(config);
    const lines = (await readFile(config.data.trainFiles[0]!, "utf8")).split("\n");
    const [file, other, text] = ["few.csv", "exchanged.csv", "text.jsonl"].map((name) => join(folder.path, name));
    await writeFile(file!, lines.slice(0, 7).join("\n"));
    const header = lines[0]!.replace("response_a,response_b", "response_b,response_a");
    expect(header).not.toBe(lines[0]!);
    await writeFile(other!, [header, ...lines.slice(1, 7)].join("\n"));
    await writeFile(text!, '{"text":"a"}\n');

    const averaged = await predict({ run, files: [file!], device, tta: "swap", submission: true });
    const plain = await predict({ run, files: [file!], device });
    const exchanged = await predict({ run, files: [other!], device });
    expect(averaged.rows.map(({ id }) => id)).toEqual(plain.rows.map(({ id }) => id));
    averaged.rows.forEach(({ values }, i) => {
      const [b, a, tie] = exchanged.rows[i]!.values;
      const [p, q, r] = plain.rows[i]!.values;
      for (const [c, mean] of [(p! + a!) / 2, (q! + b!) / 2, (r! + tie!) / 2].entries())
        expect(values[c]!).toBeCloseTo(mean, 6);
    });
    expect(averaged.rows[0]!.values[0]!).not.toBeCloseTo(plain.rows[0]!.values[0]!, 6);
    const refused = await predict({ run, files: [text!], device, submission: true }).catch((e: unknown) => e as Error);
    expect((refused as Error).message).toContain(`${text}:1: a submission needs arena rows, this one is text`);
  }, 120_000);
});
