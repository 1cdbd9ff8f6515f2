import { defineCommand } from "citty";
import { dataOf } from "../command.ts";

export const variadic = true;

export default defineCommand({
  meta: { name: "ensemble", description: "Average files of probabilities, joined by id" },
  args: {
    files: { type: "positional", description: "CSV files of predict" },
    output: { type: "string", valueHint: "file", description: "Write here instead of stdout" },
    weights: { type: "string", valueHint: "numbers", description: "A weight for each file: 0.6,0.4 (default: equal)" },
    temperature: { type: "string", valueHint: "T", description: "Raise probabilities to 1/T; above 1 is less certain" },
    fit: {
      type: "string",
      valueHint: "file",
      description: "Find weights and temperature: a file of labels by id, for out-of-fold files",
    },
    json: { type: "boolean", description: "Print weights, temperature and log losses as JSON; needs --output" },
  },
  async run(context) {
    const { runEnsemble } = await import("./ensemble.run.ts");
    const { output, weights, temperature, fit, json = false } = context.args;
    return runEnsemble(dataOf(context).positionals, { output, weights, temperature, fit, json });
  },
});
