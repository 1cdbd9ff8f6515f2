/** Forward and backward of one optimizer step: the gradient is the mean over its samples, however they are cut. */
import { uploadBatch } from "./batch.ts";
import { cutMicroBatches, packSamples, type PackLimits, type Sample } from "./data/pack.ts";
import type { Engine } from "./engine.ts";
import type { ForwardOptions } from "./plugin.ts";
import { Tape, type TapeOptions } from "./recorder.ts";
import type { Session } from "./session.ts";
import type { TargetTerm } from "./targets.ts";
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
  /** Terms of the loss; undefined: cross entropy with the samples' labels. */
  readonly targets?: SampleTargets | undefined;
}

/** What the samples of a micro-batch are compared with. */
export interface SampleTargets {
  /** Terms of every batch. */
  readonly terms: number;
  of(samples: readonly Sample[]): readonly TargetTerm[];
}

/**
 * Adds the gradient of the mean loss over `samples`, times `lossScale`, to every parameter.
 * @returns [terms * S] f32 the samples' losses, term by term, in the order of the cut; free it
 */
export function accumulateGradients(
  session: Session,
  engine: Engine,
  samples: readonly Sample[],
  settings: StepSettings,
): Tensor {
  const { gpu, model } = session;
  const { targets } = settings;
  const all = gpu.alloc([samples.length * (targets?.terms ?? 1)], "f32", "losses", "data");
  const cut = cutMicroBatches(
    samples.map((sample) => sample.inputIds.length),
    settings.limits,
  );
  let done = 0;
  for (const members of cut) {
    const chosen = members.map((i) => samples[i]!);
    const batch = uploadBatch(gpu, packSamples(chosen), settings.stepKey);
    const terms = targets?.of(chosen).map(({ values, temperature }) => {
      const shape = [members.length, session.numLabels];
      return { wanted: gpu.upload(values, shape, "f32", "targets"), temperature };
    });
    const tape = new Tape(gpu, { accumulate: engine.accumulate, onGradient: settings.onGradient });
    const logits = model.forward(tape, batch, { checkpointing: settings.checkpointing, training: true });
    const losses = terms?.map(({ wanted, temperature }) =>
      engine.crossEntropySoft(tape, logits, wanted, temperature),
    ) ?? [engine.crossEntropy(tape, logits, batch.labels)];
    const share = new Float32Array(members.length).fill(settings.lossScale / samples.length);
    const gradients = losses.map((term, i) => {
      gpu.copyInto(term, all, (i * samples.length + done) * 4);
      const dTerm = tape.like(term, "d(losses)");
      gpu.write(dTerm, share);
      return [term, dTerm] as const;
    });
    tape.backward(gradients);
    tape.close();
    for (const { wanted } of terms ?? []) gpu.free(wanted);
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
