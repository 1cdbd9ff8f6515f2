/** Forward and backward of one optimizer step: the gradient is the mean over its samples, however they are cut. */
import { uploadBatch } from "./batch.ts";
import { cutMicroBatches, packSamples, type PackLimits, type Sample } from "./data/pack.ts";
import type { Engine } from "./engine.ts";
import type { ForwardOptions } from "./plugin.ts";
import { Tape, type TapeOptions } from "./recorder.ts";
import type { Session } from "./session.ts";
import type { Tensor } from "./tensor.ts";

/** How a step is cut and run. */
export interface StepSettings {
  readonly limits: PackLimits;
  readonly checkpointing: ForwardOptions["checkpointing"];
  /** Gradients are multiplied by it; a power of two. */
  readonly lossScale: number;
  /** Number that dropout draws from; the optimizer step. */
  readonly stepKey: number;
  readonly onGradient?: TapeOptions["onGradient"];
}

/**
 * Adds the gradient of the mean loss over `samples`, times `lossScale`, to every parameter.
 * @returns [S] f32 the samples' losses, in the order of the cut; free it
 */
export function accumulateGradients(
  session: Session,
  engine: Engine,
  samples: readonly Sample[],
  settings: StepSettings,
): Tensor {
  const { gpu, model } = session;
  const all = gpu.alloc([samples.length], "f32", "losses", "data");
  const cut = cutMicroBatches(
    samples.map((sample) => sample.inputIds.length),
    settings.limits,
  );
  let done = 0;
  for (const members of cut) {
    const batch = uploadBatch(gpu, packSamples(members.map((i) => samples[i]!)), settings.stepKey);
    const tape = new Tape(gpu, { accumulate: engine.accumulate, onGradient: settings.onGradient });
    const logits = model.forward(tape, batch, { checkpointing: settings.checkpointing, training: true });
    const losses = engine.crossEntropy(tape, logits, batch.labels);
    gpu.copyInto(losses, all, done * 4);
    const share = new Float32Array(members.length).fill(settings.lossScale / samples.length);
    const dLosses = tape.like(losses, "d(losses)");
    gpu.write(dLosses, share);
    tape.backward([[losses, dLosses]]);
    tape.close();
    batch.free();
    gpu.submit();
    done += members.length;
  }
  return all;
}

/** [B, numLabels] f32 logits of samples packed into one batch, read back. */
export async function readLogits(
  session: Session,
  engine: Engine,
  samples: readonly Sample[],
): Promise<Float32Array<ArrayBuffer>> {
  const { gpu, model } = session;
  const batch = uploadBatch(gpu, packSamples(samples), 0);
  const tape = new Tape(gpu, { accumulate: engine.accumulate, recording: false });
  const logits = model.forward(tape, batch, { checkpointing: "none", training: false });
  const values = await gpu.readFloats(logits);
  tape.close();
  batch.free();
  return values;
}
