import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { QloraError } from "../../core/errors.ts";
import { predict, train } from "../../index.ts";
import { PartialLogits } from "../../sdk/partial.ts";
import { qlora } from "../support/command-line.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder, testProvider } from "../support/run.ts";

describe.skipIf(tiers.length === 0)("a prediction that was stopped", () => {
  test("goes on from the rows that are done, to the same bytes; of other rows or another adapter it is refused", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32", gpu: testProvider } as const;
    const config = await smallRun(folder.path, { device, training: { maxSteps: 1 } });
    const { outputDir: run } = await train(config);
    const lines = (await readFile(config.data.trainFiles[0]!, "utf8")).split("\n");
    const [file, other, output] = ["few.csv", "other.csv", "predicted.csv"].map((name) => join(folder.path, name)) as [
      string,
      string,
      string,
    ];
    await writeFile(file, lines.slice(0, 14).join("\n"));
    await writeFile(other, lines.slice(0, 13).join("\n"));
    const flags = ["--output", output, "--tier", "f32", "--gpu", testProvider, "--per-device-eval-batch-size", "4"];
    const whole = await qlora("predict", run, file, ...flags);
    expect(whole.code, whole.stderr).toBe(0);
    const wanted = await readFile(output, "utf8");
    expect(wanted.trim().split("\n")).toHaveLength(14);
    const partialFile = `${output}.partial`;
    expect(existsSync(partialFile)).toBe(false);

    // Thirteen rows in fours: stopped after the second batch, eight are done, and the old file stands.
    await writeFile(output, "the old one");
    const stop = new AbortController();
    const request = { run, files: [file], device, perDeviceEvalBatchSize: 4, partialFile } as const;
    const stopped = await predict(request, {
      signal: stop.signal,
      onEvent: (event) => event.type === "progress" && event.what === "predicting" && event.done === 8 && stop.abort(),
    }).catch((error: unknown) => error);
    expect([(stopped as QloraError).code, (stopped as Error).message]).toEqual([
      "INTERRUPTED",
      "interrupted after 8 of 13 rows",
    ]);
    expect(await readFile(output, "utf8")).toBe("the old one");
    const left = await readFile(partialFile, "utf8");
    expect(left.split("\n")).toHaveLength(4); // what it is of, two batches, the end

    // A line that a crash tore is computed anew, and so is what follows it.
    await writeFile(partialFile, left.slice(0, -20));
    const resumed = await qlora("predict", run, file, ...flags, "--resume");
    expect(resumed.stderr).toContain(`${partialFile}: going on after 4 of 13 rows`);
    expect([resumed.code, await readFile(output, "utf8"), existsSync(partialFile)]).toEqual([0, wanted, false]);

    // All done, but for the file: no GPU is needed.
    await writeFile(partialFile, left);
    const messages: string[] = [];
    const onEvent = (event: { readonly type: string; readonly message?: string }): unknown =>
      messages.push(event.message ?? "");
    await predict({ ...request, resume: true }, { onEvent });
    expect(messages).toContain(`${partialFile}: going on after 8 of 13 rows`);
    expect((await readFile(partialFile, "utf8")).split("\n")).toHaveLength(6);
    const again = predict({ ...request, resume: true, device: { ...device, memoryBudget: "1MiB" } });
    expect((await again).rows).toHaveLength(13);

    // What differs is told, and the file stays.
    const before = await readFile(partialFile, "utf8");
    expect(await failure(predict({ ...request, files: [other], resume: true }))).toMatch(
      /^ConfigError: 2 problems:\n {2}- .*partial: data: the rows that are done have "\w+", got "\w+"\n {2}- .*partial: rows: the rows that are done have 13, got 12$/,
    );
    expect(await failure(predict({ ...request, data: { maxLength: 32 }, resume: true }))).toContain(
      "partial: options: ",
    );
    expect(await failure(predict({ ...request, device: { gpu: testProvider, tier: "auto" }, resume: true }))).toContain(
      "partial: tier: ",
    );
    expect(await readFile(partialFile, "utf8")).toBe(before);
    await writeFile(partialFile, "id,winner\n1,2\n");
    expect(await failure(predict({ ...request, resume: true }))).toContain(
      `${partialFile}: its first line is damaged, or the file is none of qlora predict`,
    );

    // Without --resume it begins anew, and says so; with nothing there it says that too.
    const anew = await qlora("predict", run, file, ...flags);
    expect(anew.stderr).toContain(`${partialFile}, which an earlier prediction left, begins anew`);
    const nothing = await qlora("predict", run, file, ...flags, "--resume");
    expect(nothing.stderr).toContain(`${partialFile} is not there: nothing to go on from`);
    expect([nothing.code, await readFile(output, "utf8")]).toEqual([0, wanted]);
    const bare = await qlora("predict", run, file, "--resume");
    expect([bare.code, bare.stdout]).toEqual([2, ""]);
    expect(bare.stderr).toContain("--resume: got it without a file to write");
  }, 240_000);
});

test("no damage of what is kept gives a wrong row: it is read as it was, or not at all", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.partial");
  const options = { path, identity: { adapter: "a" }, rows: 4, numLabels: 2, views: 2 };
  {
    await using kept = await PartialLogits.open({ ...options, resume: false });
    await kept.view(0).add([2, 0], Float32Array.of(1, 2, 3, Number.NaN));
    await kept.view(1).add([3], Float32Array.of(-5, Infinity));
    expect(kept.whole).toBeUndefined();
  }
  const bytes = await readFile(path);
  const shown = async (): Promise<string> => {
    await using kept = await PartialLogits.open({ ...options, resume: true });
    return [0, 1]
      .map((view) => [0, 1, 2, 3].map((row) => kept.view(view).get(row)?.join("/") ?? "-").join(" "))
      .join(" | ");
  };
  const allowed = ["3/NaN - 1/2 - | - - - -5/Infinity", "3/NaN - 1/2 - | - - - -", "- - - - | - - - -"];
  expect(await shown()).toBe(allowed[0]!);
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Buffer.from(bytes);
    flipped[at]! ^= 1 << (at % 7);
    await writeFile(path, flipped);
    const got = await shown().catch((error: QloraError) => error.code);
    expect([...allowed.slice(1), "PREDICT_RESUME"], `byte ${at}`).toContain(got);
  }
  for (let end = 0; end < bytes.length; end += 7) {
    await writeFile(path, bytes.subarray(0, end));
    expect([...allowed, "PREDICT_RESUME"]).toContain(await shown().catch((error: QloraError) => error.code));
  }
});
