import { existsSync } from "node:fs";
import { ConfigError } from "../../core/errors.ts";
import * as plugins from "../../plugins/index.ts";
import { CONFIG_FILE, type ConfigInput } from "../../runtime/config/config.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { findPreset } from "../../sdk/presets.ts";
import { configSource } from "../config-source.ts";
import { notes } from "../output.ts";

/** A fair start for rows of any kind. */
const starter = (): ConfigInput => ({
  model: plugins.gemma2({ checkpoint: "unsloth/gemma-2-9b-it-bnb-4bit" }),
  adapter: plugins.lora({ rank: 16, alpha: 32, dropout: 0.05, targetModules: "all-linear" }),
  optimizer: plugins.adamW8bit(),
  metrics: [plugins.logLoss(), plugins.accuracy()],
  data: { trainFiles: ["train.csv"], nSplits: 10 },
  training: {
    perDeviceTrainBatchSize: 2,
    gradientAccumulationSteps: 8,
    learningRate: 2e-4,
    warmupSteps: 20,
    numTrainEpochs: 1,
    evalStrategy: "epoch",
  },
});

/** Writes qlora.config.ts into the current folder. @throws ConfigError where there is one already */
export async function init(preset: string | undefined): Promise<void> {
  const input = preset === undefined ? starter() : findPreset(preset).config();
  const data = { trainFiles: ["train.csv"], ...input.data };
  if (existsSync(CONFIG_FILE)) {
    throw new ConfigError("CONFIG_EXISTS", `${CONFIG_FILE}: there is one in this folder already`, {
      hint: "Move it away first; nothing was written.",
    });
  }
  await writeFileAtomic(CONFIG_FILE, configSource({ ...input, data }, plugins));
  notes.info(`wrote ${CONFIG_FILE}: name your files in data.trainFiles, then run qlora train`);
  if (!isInstalled()) notes.warn(`${CONFIG_FILE} imports qlora, which is not installed here: bun add -d qlora`);
}

function isInstalled(): boolean {
  try {
    Bun.resolveSync("qlora", process.cwd());
    return true;
  } catch {
    return false;
  }
}
