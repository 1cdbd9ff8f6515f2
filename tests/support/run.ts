import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { defineConfig } from "../../index.ts";
import { adamW8bit, accuracy, gemma2, logLoss, lora } from "../../plugins/index.ts";
import type { Config, ConfigInput } from "../../runtime/config/config.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { tinyCheckpoint } from "./reference.ts";

/** The provider that tests run on; see gpu.ts. */
export const testProvider = (process.env["QLORA_TEST_GPU"] ?? "auto") as "auto" | "bun-webgpu" | "webgpu";

/** A temporary folder that is gone at the end of the scope. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "qlora-test-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** A small run on the demo's task; `parts` replace what they name. */
export async function smallRun(folder: string, parts: Partial<ConfigInput> = {}): Promise<Config> {
  const file = join(folder, "arena.csv");
  await writeFileAtomic(file, demoCsv(60, 3));
  return defineConfig({
    model: gemma2({ checkpoint: tinyCheckpoint }),
    adapter: lora({
      rank: 4,
      alpha: 8,
      dropout: 0.1,
      targetModules: ["q_proj", "v_proj", "gate_proj"],
      layersToTransform: [2, 3],
    }),
    optimizer: adamW8bit(),
    metrics: [logLoss(), accuracy()],
    ...parts,
    data: { trainFiles: [file], nSplits: 5, maxLength: 64, cacheDir: join(folder, "cache"), ...parts.data },
    training: {
      outputDir: join(folder, "run"),
      perDeviceTrainBatchSize: 2,
      gradientAccumulationSteps: 2,
      learningRate: 1e-3,
      maxSteps: 6,
      loggingSteps: 2,
      ...parts.training,
    },
    device: { gpu: testProvider, ...parts.device },
  });
}
