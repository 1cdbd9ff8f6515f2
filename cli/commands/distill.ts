import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { configArgs } from "../shared-args.ts";

export const prepare: CommandModule["prepare"] = async (...args) =>
  (await import("../config-flags.ts")).prepareConfig(...args);

export default defineCommand({
  meta: { name: "distill", description: "Train a student on labels and on what teachers say of rows they did not see" },
  args: {
    ...configArgs,
    teachers: {
      type: "string",
      valueHint: "A,B",
      description: "Probability files, folders of qlora cv, or config files, which are cross-validated (required)",
    },
    folds: { type: "string", valueHint: "N", description: "Folds of a teacher's cross-validation (default: 5)" },
    equal: {
      type: "boolean",
      description: "Count the teachers alike, and fit no weights or temperature to the labels",
    },
    recipe: {
      type: "enum",
      options: ["blackpearl"],
      description: "The student's loss, of a winner (default: soft-label)",
    },
    json: { type: "boolean", description: "Print the result as JSON on stdout" },
  },
  async run(context) {
    const { runDistill } = await import("./distill.run.ts");
    const { teachers, folds, equal = false, recipe, json = false } = context.args;
    return runDistill(dataOf(context), { teachers, folds, equal, recipe, json });
  },
});
