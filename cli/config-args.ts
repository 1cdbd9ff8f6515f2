/** Flags of every command that makes a config; light, for they are read for `--help` of all commands. */
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
  "print-config": { type: "boolean", description: "Print the resolved config as JSON and stop" },
} as const;
