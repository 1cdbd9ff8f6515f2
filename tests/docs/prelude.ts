/** What the examples in doc comments may use without saying where it came from. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Config, defineConfig, train, writeFileAtomic } from "qlora";
import { Tape } from "qlora/core";
import { adamW8bit, gemma2, logLoss, lora } from "qlora/plugins";
import { testGpu } from "qlora/testing";
import { demoCsv } from "../../demo/generate.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { testProvider } from "../support/run.ts";

const folder = mkdtempSync(join(tmpdir(), "qlora-doc-examples-"));

/** Folder of the bundled NF4 Gemma-2. */
export const checkpoint = tinyCheckpoint;
/** Arena CSV. */
export const trainFiles = [join(folder, "arena.csv")];
export const files = [...trainFiles];
await writeFileAtomic(trainFiles[0]!, demoCsv(24, 7));

/** A config that trains in a moment. */
export const config: Config = defineConfig({
  model: gemma2({ checkpoint }),
  adapter: lora({ rank: 2, targetModules: ["q_proj", "v_proj"] }),
  optimizer: adamW8bit(),
  metrics: [logLoss()],
  data: { trainFiles, nSplits: 4, maxLength: 32, cacheDir: join(folder, "cache") },
  training: {
    outputDir: join(folder, "output"),
    overwriteOutputDir: true,
    perDeviceTrainBatchSize: 2,
    maxSteps: 1,
    evalStrategy: "epoch",
  },
  device: { gpu: testProvider },
});

/** Folder of a finished run. */
export const run = join(folder, "run");
await train(defineConfig({ ...config.input, training: { ...config.input.training, outputDir: run } }));

/** The smallest tier of this machine's GPU. */
export const gpu = await testGpu("f32");
export const tape = new Tape(gpu);

/** A folder for what an example writes. */
export const outputDir = join(folder, "written");

const checks: { readonly name: string; readonly run: () => unknown }[] = [];

/** Stands for a test runner's `test`. */
export function test(name: string, body: () => unknown): void {
  checks.push({ name, run: body });
}

/** Runs what `test` was given; how many there were. */
export async function runChecks(): Promise<number> {
  const given = checks.splice(0);
  for (const check of given) await check.run();
  return given.length;
}
