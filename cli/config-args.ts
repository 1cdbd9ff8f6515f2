/** Flags of every command that makes a config; light, for they are read for `--help` of all commands. */
export const configArgs = {
  config: {
    type: "string",
    valueHint: "file",
    description: "Config file (default: qlora.config.ts, where there is one)",
  },
  model: { type: "string", valueHint: "plugin", description: "Model: a shipped name, a package or ./file.ts" },
  adapter: { type: "string", valueHint: "plugin", description: "Adapter, likewise" },
  optimizer: { type: "string", valueHint: "plugin", description: "Optimizer, likewise" },
  metrics: { type: "string", valueHint: "plugins", description: "Metrics, comma-separated" },
  "print-config": { type: "boolean", description: "Print the resolved config as JSON and stop" },
} as const;
