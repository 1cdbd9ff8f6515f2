import type { GradNormOptions } from "./index.ts";

/** What `gradNorm` writes, `[coefficient, skip, norm, 0]`, in f64. */
export function gradNormReference(
  grads: readonly ArrayLike<number>[],
  { lossScale, maxNorm }: GradNormOptions,
): readonly [coefficient: number, skip: number, norm: number, unused: number] {
  let sum = 0;
  for (const grad of grads) for (let i = 0; i < grad.length; i++) sum += grad[i]! ** 2;
  if (!Number.isFinite(sum)) return [0, 1, Infinity, 0];
  const norm = Math.sqrt(sum) / lossScale;
  const clip = maxNorm > 0 && Number.isFinite(maxNorm) ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
  return [clip / lossScale, 0, norm, 0];
}
