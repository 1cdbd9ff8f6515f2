/** What of a batch decides which kernels it dispatches and which memory it needs. */
export interface BatchShape {
  /** Tokens of its samples. */
  readonly lengths: readonly number[];
  /** Whether it is trained on, with dropout and a backward pass. */
  readonly training: boolean;
}

/** Rows of a sample beyond which kernels may be chosen otherwise; a forecast of kernels tells batches with longer ones apart. */
export const LONG_SAMPLE = 2048;
