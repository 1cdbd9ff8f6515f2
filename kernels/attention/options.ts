/** What every kernel of attention is told. */
import type { Tensor } from "../../core/device/tensor.ts";

/** Shapes and numbers of one attention layer over a packed batch. */
export interface AttentionOptions {
  /** [N,2] u32: for each row the first row of its sample and the row after its last. */
  readonly segments: Tensor;
  /** H. */
  readonly heads: number;
  /** K, a divisor of H; kv head of head h is floor(h / (H / K)). */
  readonly kvHeads: number;
  /** D, a multiple of 4 up to 256. */
  readonly headDim: number;
  /** Factor of q.k before soft-capping. */
  readonly scale: number;
  /** Scores become softcap * tanh(score / softcap); 0 leaves them. */
  readonly softcap: number;
  /** A row sees itself and the window - 1 rows before it; 0 sees all of them. */
  readonly window: number;
  /** Rows of the longest sample, for which backward makes room: gradients are wrong where it is less. */
  readonly maxSeqlen: number;
  /** `visiblePairs` of the batch, for the profile's rate. */
  readonly pairs?: number | undefined;
}

/** What the backward pass reads. */
export type AttentionSaved = Readonly<Record<"q" | "k" | "v" | "out" | "lse" | "dOut", Tensor>>;
