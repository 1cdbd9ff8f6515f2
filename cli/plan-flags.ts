/** Flags of `plan`: those of `train`, and a shape that takes the place of a checkpoint. */
import { TINY_CHECKPOINT } from "../sdk/bench-source.ts";
import { planOptions } from "../sdk/plan-options.ts";
import { peekFlag } from "./argv.ts";
import type { CommandModule } from "./command.ts";
import { prepareConfig } from "./config-flags.ts";

export const preparePlan: NonNullable<CommandModule["prepare"]> = async (argv, services, help) => {
  const prepared = await prepareConfig(argv, services, help);
  const { config } = prepared;
  // The config wants a checkpoint; with a shape there is none, and the one that ships stands in for it.
  const stand = peekFlag(argv, "shape") === undefined ? {} : { checkpoint: TINY_CHECKPOINT };
  return {
    groups: [{ title: "Plan", section: "plan", flat: true, shape: planOptions.shape }, ...prepared.groups],
    ...(config === undefined
      ? {}
      : { config: (values) => config({ ...values, model: { ...stand, ...values["model"] } }) }),
  };
};
