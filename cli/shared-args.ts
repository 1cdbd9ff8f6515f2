/** Flags that several commands share; light, for they are read for `--help` of all commands. */

/** Of every command that makes a config. */
export const configArgs = {
  config: {
    type: "string",
    valueHint: "file",
    description: "Config file (default: qlora.config.ts, where there is one)",
  },
  preset: {
    type: "string",
    valueHint: "name",
    description: "A shipped config, laid over the file's; see qlora presets",
  },
  model: {
    type: "string",
    valueHint: "checkpoint|plugin",
    description:
      "Checkpoint: a folder, or a model of the hub as org/name; or a model plugin: a shipped name, a package or ./file.ts",
  },
  adapter: { type: "string", valueHint: "plugin", description: "Adapter: a shipped name, a package or ./file.ts" },
  optimizer: { type: "string", valueHint: "plugin", description: "Optimizer, likewise" },
  metrics: { type: "string", valueHint: "plugins", description: "Metrics, comma-separated" },
  "report-to": {
    type: "string",
    valueHint: "plugins",
    description: "Where to log besides the run's folder, comma-separated: tensorboard, wandb, mlflow, trackio; or none",
  },
  "print-config": { type: "boolean", description: "Print the resolved config as JSON and stop" },
} as const;

/** Of the commands that run a trained adapter. */
export const inferenceArgs = {
  run: {
    type: "positional",
    description: "the output folder of a run, one of its checkpoints, or a PEFT adapter's folder",
  },
  files: {
    type: "positional",
    required: false,
    description:
      "files of rows: CSV, JSON, JSONL, Parquet, also in .gz or .zip; folders and patterns of them (default: the run's own evaluation data)",
  },
  "base-model": {
    type: "string",
    valueHint: "checkpoint",
    description: "Base model (a folder or a hub id), where it is another than the run's",
  },
  "trust-remote-code": {
    type: "boolean",
    description: "Run the code of a plugin that the run's record names by a file",
  },
} as const;
