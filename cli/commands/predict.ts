import { defineCommand } from "citty";
import { dataOf, type CommandModule } from "../command.ts";
import { inferenceArgs } from "../shared-args.ts";

export const variadic = true;

export const repeatable = ["post-process"];

export const prepare: CommandModule["prepare"] = async () => ({
  groups: (await import("../inference-flags.ts")).inferenceGroups,
});

export default defineCommand({
  meta: { name: "predict", description: "Write class probabilities of each row" },
  args: {
    ...inferenceArgs,
    output: { type: "string", valueHint: "file", description: "Write here instead of stdout; .jsonl gives JSON lines" },
    logits: { type: "boolean", description: "Write raw logits instead of probabilities" },
    tta: {
      type: "enum",
      options: ["none", "swap"],
      description: "swap: predict arena rows with A and B exchanged too, and average by id",
    },
    "post-process": {
      type: "string",
      valueHint: "name=A,B,tie",
      description:
        "Fixed probabilities of arena rows: both-empty=0.04,0.88,0.08 (no answer says anything), identical=0.06,0.06,0.88 (equal answers); may be repeated",
    },
    submission: {
      type: "string",
      valueHint: "file",
      description:
        "Write the competition's CSV here: id, winner_model_a, winner_model_b, winner_tie; of a model without ties id, winner",
    },
    oof: {
      type: "string",
      valueHint: "file",
      description: "Add the rows that the run held out to this CSV of out-of-fold predictions; once for each fold",
    },
    resume: {
      type: "boolean",
      description:
        "Go on from what a prediction of the same rows had done when it stopped (FILE.partial beside the file)",
    },
    gpus: { type: "string", valueHint: "N|all", description: "Run on so many GPUs of this machine, through mpirun" },
    json: { type: "boolean", description: "Write JSON lines instead of CSV" },
  },
  async run(context) {
    const { predict } = await import("./inference.run.ts");
    const {
      "base-model": baseModel,
      "trust-remote-code": trustRemoteCode = false,
      output,
      submission,
      oof,
    } = context.args;
    const { logits = false, json = false, tta = "none", resume = false } = context.args;
    const postProcess = context.args["post-process"];
    return predict(dataOf(context), {
      baseModel,
      trustRemoteCode,
      output,
      submission,
      oof,
      logits,
      json,
      tta,
      postProcess,
      resume,
    });
  },
});
