/** One forward pass over samples, as evaluation, prediction, opened models and the test kit run it. */
import { type Batch, uploadBatch } from "../../core/compute/batch.ts";
import type { ForwardOptions } from "../../core/compute/blocks.ts";
import { Tape } from "../../core/compute/tape.ts";
import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { packSamples, type Sample } from "../data/pack.ts";
import type { Session } from "../session/session.ts";

/** How it is run; default: as in evaluation. */
export interface PassOptions {
  readonly training?: boolean;
  /** Number that dropout draws from. */
  readonly stepKey?: number;
  readonly onHidden?: ForwardOptions["onHidden"];
}

/** What is there once the pass is encoded. */
export interface Pass {
  readonly tape: Tape;
  /** [B, numLabels] f32. */
  readonly logits: Tensor;
  readonly batch: Batch;
}

/**
 * Runs samples packed into one batch, without gradients.
 * @param read gives what is wanted of it, before its tensors are freed
 */
export async function forwardPass<T>(
  session: Session,
  samples: readonly Sample[],
  read: (pass: Pass) => Promise<T>,
  { training = false, stepKey = 0, onHidden }: PassOptions = {},
): Promise<T> {
  const { gpu, model } = session;
  await makeReady(session, samples, training);
  const batch = uploadBatch(gpu, packSamples(samples), stepKey);
  const tape = new Tape(gpu, { recording: false });
  const logits = model.forward(tape, batch, { checkpointing: "none", training, onHidden });
  const result = await read({ tape, logits, batch });
  tape.close();
  batch.free();
  return result;
}

/** [B, numLabels] f32 logits of samples packed into one batch, read back. */
export const readLogits = (session: Session, samples: readonly Sample[]): Promise<Float32Array<ArrayBuffer>> =>
  forwardPass(session, samples, ({ logits }) => session.gpu.readFloats(logits));

/** Kernels and memory for a batch. */
export async function makeReady(
  { gpu, prepare }: Session,
  samples: readonly Sample[],
  training: boolean,
): Promise<void> {
  const batch = { lengths: samples.map(({ inputIds }) => inputIds.length), training };
  await prepare?.(batch);
  await reserve(gpu, batch);
}

/**
 * Called before a batch. Where its buffers may not fit beside those that the GPU still uses, waits for
 * it and gives up the pool; else resolves at once.
 * @throws DeviceError as `Gpu.idle`
 */
async function reserve(gpu: Gpu, batch: BatchShape): Promise<void> {
  const first = gpu.memory.begin(batch);
  if (first === undefined) return;
  await gpu.idle();
  if (first === "wait") return;
  gpu.memory.trim();
  await gpu.idle(); // the driver frees what it was given back
}
