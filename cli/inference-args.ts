/** Flags of the commands that run a trained adapter; light, for they are read for `--help` of all commands. */
export const inferenceArgs = {
  run: {
    type: "positional",
    description: "the output folder of a run, one of its checkpoints, or a PEFT adapter's folder",
  },
  files: {
    type: "positional",
    required: false,
    description: "CSV or JSONL files (default: the run's own evaluation data)",
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
