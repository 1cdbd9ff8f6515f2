/** Forward and backward of one optimizer step: the gradient is the mean over its samples, however they are cut. */
import { type Batch, uploadBatch } from "../../core/compute/batch.ts";
import type { ForwardOptions } from "../../core/compute/blocks.ts";
import { Tape, type TapeOptions } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { crossEntropy, crossEntropySoft } from "../../kernels/cross-entropy/index.ts";
import type { LossOutput } from "../config/loss.ts";
import { neftune, type NeftuneOptions } from "../../kernels/neftune/index.ts";
import { PluginError } from "../../core/errors.ts";
import {
  groupLengths,
  packSamples,
  type PackLimits,
  rowsOfGroups,
  type Sample,
  splitMicroBatches,
} from "../data/pack.ts";
import type { Session } from "../session/session.ts";
import { makeReady } from "./forward.ts";
import type { TargetTerm } from "./targets.ts";
import type { TaskLoss } from "./tasks/task.ts";

/** How a step is cut and run. */
export interface StepSettings {
  readonly limits: PackLimits;
  readonly checkpointing: ForwardOptions["checkpointing"];
  /** Gradients are multiplied by it; a power of two. */
  readonly lossScale: number;
  /** Number that dropout draws from; the optimizer step. */
  readonly stepKey: number;
  readonly onGradient?: TapeOptions["onGradient"];
  /** Called while the last micro-batch's backward is encoded, when blocks from this one on have got all of their gradients. */
  readonly onBlock?: TapeOptions["onBlock"];
  /** Terms of the loss; undefined: cross entropy with the samples' labels. */
  readonly targets?: SampleTargets | undefined;
  /** The loss of a task without classes, in place of `targets`. */
  readonly taskLoss?: TaskLoss | undefined;
  /** A loss on the host in place of `targets`: each sample's logits ([L]) to its loss and gradient. */
  readonly rowLoss?: ((sample: Sample, logits: Float64Array) => LossOutput) | undefined;
  /** Noise on the embeddings; undefined: none. */
  readonly neftune?: NeftuneOptions | undefined;
  /** Samples (pairs, where a task compares them) that the mean is over, where `samples` are a part of the step's. */
  readonly stepSamples?: number | undefined;
}

/** What the samples of a micro-batch are compared with. */
export interface SampleTargets {
  /** Terms of every batch. */
  readonly terms: number;
  of(samples: readonly Sample[]): readonly TargetTerm[];
}

/**
 * Adds the gradient of the mean loss over `samples` (their sum over `stepSamples`), times `lossScale`, to every parameter.
 * @param samples where the task compares pairs, the two rows of each after one another
 * @returns [terms * S] f32 the samples' losses, term by term, in the order of the cut; free it
 */
export async function accumulateGradients(
  session: Session,
  samples: readonly Sample[],
  settings: StepSettings,
): Promise<Tensor> {
  const { gpu } = session;
  const { targets, taskLoss } = settings;
  const rows = taskLoss?.rows ?? 1;
  const size = samples.length / rows;
  const dLoss = settings.lossScale / (settings.stepSamples ?? size);
  const all = gpu.alloc([size * (targets?.terms ?? 1)], "f32", "losses", "data");
  const lengths = samples.map((sample) => sample.inputIds.length);
  const cut = splitMicroBatches(groupLengths(lengths, rows), settings.limits);
  let done = 0;
  for (const members of cut) {
    const chosen = rowsOfGroups(members, rows).map((i) => samples[i]!);
    await makeReady(session, chosen, true);
    const batch = uploadBatch(gpu, packSamples(chosen), settings.stepKey);
    const { record, free } = lossOnDevice(session, chosen, settings);
    const isLast = done + members.length === size;
    const { onGradient, onBlock } = settings;
    const tape = new Tape(gpu, { onGradient, onBlock: isLast ? onBlock : undefined });
    const logits = forwardNoisy(session, tape, batch, settings);
    if (settings.rowLoss !== undefined) {
      const values = await gpu.readFloats(logits);
      const { losses, dLogits } = lossesOnHost(values, chosen, settings.rowLoss, dLoss);
      gpu.copyInto(upload(tape, losses, "losses"), all, done * 4);
      tape.backward([[logits, upload(tape, dLogits, "d(logits)", logits.shape)]]);
    } else {
      const share = new Float32Array(members.length).fill(dLoss);
      const gradients = record(tape, logits, batch).map((term, i) => {
        gpu.copyInto(term, all, (i * size + done) * 4);
        return [term, upload(tape, share, "d(losses)")] as const;
      });
      tape.backward(gradients);
    }
    tape.close();
    free();
    batch.free();
    gpu.submit();
    done += members.length;
  }
  return all;
}

/** Logits of a micro-batch, with noise on its embeddings where the settings ask for it. @throws PluginError */
function forwardNoisy(
  { gpu, model }: Session,
  tape: Tape,
  batch: Batch,
  { checkpointing, neftune: noise }: StepSettings,
): Tensor {
  if (noise === undefined) return model.forward(tape, batch, { checkpointing, training: true });
  let embedded = false;
  // The first hidden states are the embeddings; nothing has read them yet.
  const onHidden = (h: Tensor): void => {
    if (!embedded) neftune(gpu, h, batch, noise);
    embedded = true;
  };
  const logits = model.forward(tape, batch, { checkpointing, training: true, onHidden });
  if (embedded) return logits;
  throw new PluginError(
    "NEFTUNE_UNSUPPORTED",
    "training.neftuneNoiseAlpha: the model gives its embeddings to no onHidden",
    {
      hint: "Leave the option out, or let the model call options.onHidden with its embeddings first, as runBlocks does.",
    },
  );
}

/** The terms of a micro-batch's loss, and what they are compared with. */
interface DeviceLoss {
  /** Logits [B,L] -> terms of the losses, each [B], or [B/2] where a task compares pairs. */
  readonly record: (tape: Tape, logits: Tensor, batch: Batch) => readonly Tensor[];
  readonly free: () => void;
}

function lossOnDevice(
  { gpu, numLabels }: Session,
  samples: readonly Sample[],
  { targets, taskLoss }: StepSettings,
): DeviceLoss {
  if (taskLoss !== undefined) {
    const shape = taskLoss.shape(samples.length, numLabels);
    const values = gpu.upload(taskLoss.values(samples), shape, "f32", "targets");
    return { record: (tape, logits) => [taskLoss.record(tape, logits, values)], free: () => gpu.free(values) };
  }
  if (targets === undefined)
    return { record: (tape, logits, { labels }) => [crossEntropy(tape, logits, labels)], free: () => {} };
  const terms = targets.of(samples).map(({ values, temperature }) => {
    return { wanted: gpu.upload(values, [samples.length, numLabels], "f32", "targets"), temperature };
  });
  return {
    record: (tape, logits) =>
      terms.map(({ wanted, temperature }) => crossEntropySoft(tape, logits, wanted, temperature)),
    free: () => terms.forEach(({ wanted }) => gpu.free(wanted)),
  };
}

/** A transient of the tape with these values. */
function upload(
  tape: Tape,
  values: Float32Array<ArrayBuffer>,
  label: string,
  shape = [values.length] as readonly number[],
): Tensor {
  const tensor = tape.alloc(shape, "f32", label);
  tape.gpu.write(tensor, values);
  return tensor;
}

/** Losses [B] of logits [B,L], and their gradient by the logits times `dLoss`. */
function lossesOnHost(
  logits: Float32Array,
  samples: readonly Sample[],
  rowLoss: NonNullable<StepSettings["rowLoss"]>,
  dLoss: number,
): { readonly losses: Float32Array<ArrayBuffer>; readonly dLogits: Float32Array<ArrayBuffer> } {
  const labels = logits.length / samples.length;
  const losses = new Float32Array(samples.length);
  const dLogits = new Float32Array(logits.length);
  samples.forEach((sample, b) => {
    const row = rowLoss(sample, Float64Array.from(logits.subarray(b * labels, (b + 1) * labels)));
    losses[b] = row.loss;
    for (let c = 0; c < labels; c++) dLogits[b * labels + c] = row.dLogits[c]! * dLoss;
  });
  return { losses, dLogits };
}

/** The part of a step's settings that the loss makes. */
export type StepLoss = Pick<StepSettings, "targets" | "taskLoss" | "rowLoss">;
