/** `--quantization`, one word for what transformers' BitsAndBytesConfig says in several. */
import type { QuantType } from "../core/formats/nf4.ts";
import { option } from "../core/options/options.ts";
import { quantizationInput, quantizationNames } from "../core/plugin/quantization-options.ts";
import type { FlagGroup, SectionValues } from "./argv.ts";

export const weightsGroup: FlagGroup = {
  title: "Weights",
  section: "weights",
  flat: true,
  shape: {
    quantization: option(quantizationNames, {
      optional: true,
      help: "what a checkpoint in 16 bits is quantized to as it is loaded (default: nf4); none runs it as it is",
    }),
  },
};

/** What the flag says, in one word. */
export const quantizationName = (values: SectionValues): QuantType | "none" | undefined =>
  values["weights"]?.["quantization"] as QuantType | "none" | undefined;

/** The model options that the flag stands for. */
export const quantizationOf = (values: SectionValues): Readonly<Record<string, unknown>> =>
  quantizationInput(quantizationName(values));
