/** A user-defined loss: a function of one sample's logits and its gradient, on the host in f64. */
import { PluginError } from "../../core/errors.ts";
import { defineRequest } from "../../core/options/request.ts";
import type { DataRow } from "../data/formats/index.ts";

/** One sample of a training step, as a loss sees it. */
export interface LossInput {
  /** [L] logits of the sample. */
  readonly logits: Float64Array;
  /** Class of the sample; NaN where the task has none. */
  readonly label: number;
  /** [L] probability of each class, where data.softLabelColumns gives them. */
  readonly soft: readonly number[] | undefined;
  /** [L] targets of a regression, or 0 and 1 for each label of a multi-label row; undefined where the task has classes. */
  readonly values?: readonly number[] | undefined;
  /** The row itself: its id, its text or its prompt and answers. */
  readonly row: DataRow;
}

/** What a loss makes of one sample. */
export interface LossOutput {
  readonly loss: number;
  /** [L] derivative of `loss` by each logit. */
  readonly dLogits: ArrayLike<number>;
}

/** What an author of a loss writes. */
export interface LossDefinition {
  /** Stands in run.json. */
  readonly name: string;
  /** Numbers and words that it depends on, for run.json. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Loss and gradient of one sample; the trainer takes the mean over the samples of a step. */
  compute(input: LossInput): LossOutput;
}

const check = defineRequest<LossDefinition>("defineLoss", { name: "string", options: "object?", compute: "Function" });

/** A loss as a config holds it. */
export interface Loss extends Required<LossDefinition> {
  readonly kind: "loss";
}

/**
 * Declares a loss, the value of a config's `loss`. Logits of a micro-batch are read back for it ([B,L] f32) and the gradient
 * is uploaded, so it costs one wait for the GPU a micro-batch; `lossContract` of qlora/testing checks the gradient.
 * @example
 * const focal = (gamma: number) =>
 *   defineLoss({
 *     name: "focal",
 *     options: { gamma },
 *     compute({ logits, label }) {
 *       const p = softmaxRows(logits, logits.length);
 *       const [q, log] = [1 - p[label]!, Math.log(p[label]!)];
 *       const slope = gamma * q ** (gamma - 1) * p[label]! * log - q ** gamma; // d loss / d log p
 *       return { loss: -(q ** gamma) * log, dLogits: p.map((value, c) => slope * ((c === label ? 1 : 0) - value)) };
 *     },
 *   });
 * await train(defineConfig({ ...config.input, loss: focal(2) }));
 */
export function defineLoss(definition: LossDefinition): Loss {
  const { name, options = {} } = check(definition);
  return { kind: "loss", name, options, compute: (input) => definition.compute(input) };
}

/** True for a loss, whichever copy of qlora made it. */
export function isLoss(value: unknown): value is Loss {
  if (typeof value !== "object" || value === null || !("kind" in value) || value.kind !== "loss") return false;
  return "name" in value && "compute" in value && typeof value.compute === "function";
}

/** As `loss.compute`. @throws PluginError where it gives a gradient of another length */
export function computeLoss(loss: Loss, input: LossInput): LossOutput {
  const output = loss.compute(input);
  if (output.dLogits.length === input.logits.length && typeof output.loss === "number") return output;
  throw new PluginError(
    "LOSS_INVALID",
    `loss ${loss.name}: got a loss of type ${typeof output.loss} and ${output.dLogits.length} numbers in dLogits, ` +
      `expected a number and one for each of ${input.logits.length} classes`,
    { hint: "compute returns { loss, dLogits }; dLogits holds the derivative of the loss by each logit." },
  );
}
