/** What `qlora demo` trains: LoRA on the bundled 1.5M-parameter Gemma-2, three classes, about a minute on two cores. */
import { join } from "node:path";
import { defineConfig } from "qlora";
import { accuracy, adamW8bit, gemma2, logLoss, lora } from "qlora/plugins";

const root = join(import.meta.dir, "..");

export default defineConfig({
  model: gemma2({ checkpoint: join(root, "assets/tiny-gemma2-nf4") }),
  adapter: lora({ rank: 16, alpha: 32, dropout: 0.05, targetModules: "all-linear" }),
  optimizer: adamW8bit(),
  metrics: [logLoss(), accuracy()],
  // 7 and the three outcomes, which alternate, have no common factor: the rows held out hold all three.
  data: { trainFiles: ["output/demo/arena.csv"], nSplits: 7, foldIdx: 0, maxLength: 128 },
  training: {
    outputDir: "output/demo/run",
    overwriteOutputDir: true,
    perDeviceTrainBatchSize: 8,
    learningRate: 2e-3,
    lrSchedulerType: "cosine",
    warmupSteps: 4,
    maxSteps: 64,
    loggingSteps: 4,
    evalStrategy: "steps",
    evalSteps: 16,
    perDeviceEvalBatchSize: 32,
  },
});
