/** Bounds of sizes, far above what anybody trains with: a plan of memory and a cut are made of a step's samples one by one. */

/** Most samples of a batch, and of an optimizer step. */
export const MAX_SAMPLES = 65_536;
export const samples = `1 <= number.integer <= ${MAX_SAMPLES}` as const;

/** Most tokens of one sample. */
export const MAX_TOKENS = 1_048_576;
export const sampleTokens = `1 <= number.integer <= ${MAX_TOKENS}` as const;
