/** Sizes that no run can have are told as such, by option and bound, and what is allowed can be planned. */
import { describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import type { OptionSet } from "../../core/options/options.ts";
import { bench, dryRun } from "../../index.ts";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

describe("a size that no run can have", () => {
  const beyond = "got 1000000000000, expected an integer >= 1 and <=";
  test.each([
    [trainingOptions, { perDeviceTrainBatchSize: 1e12 }, `perDeviceTrainBatchSize: ${beyond} 65536`],
    [trainingOptions, { perDeviceEvalBatchSize: 1e12 }, `perDeviceEvalBatchSize: ${beyond} 65536`],
    [trainingOptions, { gradientAccumulationSteps: 1e12 }, `gradientAccumulationSteps: ${beyond} 65536`],
    [
      trainingOptions,
      { perDeviceTrainBatchSize: 512, gradientAccumulationSteps: 129 },
      "perDeviceTrainBatchSize: got 512 with gradientAccumulationSteps 129, 66048 samples a step, expected at most 65536: lower one of them",
    ],
    [dataOptions, { maxLength: 1e12 }, `maxLength: ${beyond} 1048576`],
    [benchOptions, { batch: 1e12 }, `batch: ${beyond} 65536`],
    [benchOptions, { tokens: 1e12 }, `tokens: ${beyond} 1048576`],
  ] as const)("%#", (options: OptionSet, given, problem) => {
    const act = (): unknown => options.parse(given);
    expect(act).toThrow(ConfigError);
    expect(act).toThrow(problem);
  });
});

test("a file of lengths that no sample can have", async () => {
  await using folder = await temporaryFolder();
  const lengths = join(folder.path, "lengths.json");
  await writeFile(lengths, "[512, 1e12]");
  expect(await failure(bench({ lengths }))).toBe(
    `ConfigError: lengths: ${lengths} is no JSON list of token counts from 1 to 1048576, such as [512, 1024]`,
  );
});

test.skipIf(tiers.length === 0)(
  "the largest batches are planned, far more than the data has",
  async () => {
    await using folder = await temporaryFolder();
    const sizes = { perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 65_536, perDeviceEvalBatchSize: 65_536 };
    const config = await smallRun(folder.path, {
      training: { ...sizes, evalStrategy: "epoch" },
      device: { tier: "f32" },
    });
    expect(await dryRun(config)).toMatchObject({ globalBatchSize: 65_536, totalSteps: 6, trainSamples: 48 });
  },
  30_000,
);
