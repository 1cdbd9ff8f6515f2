/** A loss of several terms against a label and a teacher's probabilities, for a student that learns from both. */
import { ConfigError } from "../../core/errors.ts";
import { defineRequest } from "../../core/options/request.ts";
import { defineLoss, type Loss, type LossInput, type LossOutput } from "../config/loss.ts";

/** Weights of the terms, which are taken as they are; 0 leaves a term out. */
export interface DistillationOptions {
  /** Cross entropy with the label. Default 0.2. */
  readonly crossEntropy?: number | undefined;
  /** T^2 KL(teacher || student), both at temperature T. Default 0.4. */
  readonly kl?: number | undefined;
  /** 1 - cos(teacher, student) of the probabilities at temperature T. Default 0.4. */
  readonly cosine?: number | undefined;
  /** -(1 - p)^gamma log p of the label's probability p. Default 0. */
  readonly focal?: number | undefined;
  /** Default 2. */
  readonly gamma?: number | undefined;
  /** T: above 1, the classes that the teacher finds unlikely count for more. Default 1. */
  readonly temperature?: number | undefined;
}

const check = defineRequest<DistillationOptions>("distillation", {
  crossEntropy: "number >= 0?",
  kl: "number >= 0?",
  cosine: "number >= 0?",
  focal: "number >= 0?",
  gamma: "number >= 0?",
  temperature: "number > 0?",
});

/**
 * The value of a config's `loss`: cross entropy, focal loss, KL divergence and cosine distance in any mix. The teacher is the row's soft
 * labels (`data.softLabelColumns`); a row without them has its label alone, at the weight of all terms. The defaults are the mix of LMSYS' first
 * place, (CE + KL + cos + KL + cos) / 5, with the two teachers averaged.
 * @example
 * const student = defineConfig({ ...config.input, loss: distillation({ kl: 0.5, cosine: 0, crossEntropy: 0.5, temperature: 2 }) });
 */
export function distillation(options: DistillationOptions = {}): Loss {
  const { crossEntropy = 0.2, kl = 0.4, cosine = 0.4, focal = 0, gamma = 2, temperature = 1 } = check(options);
  const weights = { crossEntropy, kl, cosine, focal };
  const total = crossEntropy + kl + cosine + focal;
  if (!(total > 0 && total < Infinity)) {
    const got = Object.entries(weights).map(([name, weight]) => `${name} ${weight}`);
    throw new ConfigError("DISTILLATION_WEIGHTS", `distillation: got ${got.join(", ")}, expected one weight above 0`);
  }
  const compute = ({ logits, label, soft }: LossInput): LossOutput => {
    const [hard, focused] = [entropyTerm(logits, label), focalTerm(logits, label, gamma)];
    if (soft === undefined) {
      // What the teacher would have had goes to the label's terms, in their own proportion.
      const own = crossEntropy + focal;
      const share = own === 0 ? [total, 0] : [(total * crossEntropy) / own, (total * focal) / own];
      return mixed([share[0]!, hard], [share[1]!, focused]);
    }
    const teacher = tempered(soft, temperature);
    const student = logProbabilities(logits, temperature);
    return mixed(
      [crossEntropy, hard],
      [focal, focused],
      [kl, klTerm(teacher, student, temperature)],
      [cosine, cosineTerm(teacher, student, temperature)],
    );
  };
  return defineLoss({ name: "distillation", options: { ...weights, gamma, temperature }, compute });
}

function mixed(...terms: readonly (readonly [weight: number, term: LossOutput])[]): LossOutput {
  const used = terms.filter(([weight]) => weight > 0);
  return {
    loss: used.reduce((sum, [weight, { loss }]) => sum + weight * loss, 0),
    dLogits: Array.from(terms[0]![1].dLogits, (_, c) =>
      used.reduce((sum, [weight, { dLogits }]) => sum + weight * dLogits[c]!, 0),
    ),
  };
}

/** log softmax(logits / T). */
function logProbabilities(logits: ArrayLike<number>, temperature: number): number[] {
  const scaled = Array.from(logits, (value) => value / temperature);
  const top = Math.max(...scaled);
  const logSum = top + Math.log(scaled.reduce((sum, value) => sum + Math.exp(value - top), 0));
  return scaled.map((value) => value - logSum);
}

/** Probabilities to the power 1/T, normalized. */
function tempered(values: readonly number[], temperature: number): number[] {
  const powers = values.map((value) => value ** (1 / temperature));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

function entropyTerm(logits: Float64Array, label: number): LossOutput {
  const logs = logProbabilities(logits, 1);
  return { loss: -logs[label]!, dLogits: logs.map((log, c) => Math.exp(log) - (c === label ? 1 : 0)) };
}

/** Lin et al. 2017. */
function focalTerm(logits: Float64Array, label: number, gamma: number): LossOutput {
  const logs = logProbabilities(logits, 1);
  const log = logs[label]!;
  const [p, rest] = [Math.exp(log), -Math.expm1(log)];
  const slope = (rest === 0 ? 0 : gamma * rest ** (gamma - 1) * p * log) - rest ** gamma; // d loss / d log p
  return {
    loss: -(rest ** gamma) * log,
    dLogits: logs.map((other, c) => slope * ((c === label ? 1 : 0) - Math.exp(other))),
  };
}

/** T^2 keeps the gradient's size (Hinton et al. 2015). */
function klTerm(teacher: readonly number[], student: readonly number[], temperature: number): LossOutput {
  const divergence = teacher.reduce((sum, q, c) => sum + (q === 0 ? 0 : q * (Math.log(q) - student[c]!)), 0);
  return {
    loss: temperature ** 2 * divergence,
    dLogits: student.map((log, c) => temperature * (Math.exp(log) - teacher[c]!)),
  };
}

function cosineTerm(teacher: readonly number[], student: readonly number[], temperature: number): LossOutput {
  const p = student.map(Math.exp);
  const dot = (a: readonly number[], b: readonly number[]): number =>
    a.reduce((sum, value, c) => sum + value * b[c]!, 0);
  const [square, norms] = [dot(p, p), Math.sqrt(dot(p, p) * dot(teacher, teacher))];
  const cosine = dot(p, teacher) / norms;
  const slopes = p.map((value, c) => (cosine * value) / square - teacher[c]! / norms); // d loss / d p
  const mean = dot(p, slopes);
  return { loss: 1 - cosine, dLogits: p.map((value, c) => (value * (slopes[c]! - mean)) / temperature) };
}
