import type { OpenOptions } from "../../runtime/device/open.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";
import type { Slab } from "./parameters.ts";
import type { Accumulate, Tape } from "./tape.ts";

/** What a device reaches at most, measured. */
export interface Ceilings {
  /** In products of the tier's operand type. */
  readonly flopsPerSecond: number;
  /** In a copy, reads and writes counted. */
  readonly bytesPerSecond: number;
}

/** The few kernels that the training loop itself needs; the composition root gives them, since core imports no kernels. */
export interface Engine {
  readonly accumulate: Accumulate;
  /** Cross entropy of each sample: logits [B,L] f32, labels [B] u32 -> losses [B] f32. */
  crossEntropy(tape: Tape, logits: Tensor, labels: Tensor): Tensor;
  /** Cross entropy with weights of the classes: logits, targets [B,L] f32 -> losses [B] f32, of softmax(logits / temperature). */
  crossEntropySoft(tape: Tape, logits: Tensor, targets: Tensor, temperature?: number): Tensor;
  /** y [N,out] = x [N,in] W^T + bias: weight [out,in], x and y in the tier's operand type, bias [out] f32. */
  denseLinear(tape: Tape, x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /**
   * Global L2 norm of all gradients divided by `lossScale`. Writes control [4] f32: factor that unscales and clips
   * (to `maxNorm`, 0 = never), 1 where a gradient is not finite (else 0), the norm, unused.
   */
  gradNorm(gpu: Gpu, slabs: readonly Slab[], control: Tensor, settings: { lossScale: number; maxNorm: number }): void;
  /** Adds the number of elements that are NaN or infinite to `counters[slot]` (u32). */
  countNonFinite(gpu: Gpu, tensor: Tensor, counters: Tensor, slot: number): void;
  /** Opens the GPU that work runs on; default: one of this machine. */
  readonly openGpu?: ((options: OpenOptions) => Promise<Gpu>) | undefined;
  /** What the profile's rates are held against. Needs the feature timestamp-query. */
  measureCeilings(gpu: Gpu): Promise<Ceilings>;
}
