import type { AdamWOptions } from "./index.ts";

/** Parameters and moments of one tensor, updated in place. */
export interface AdamWReferenceState {
  readonly value: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
}

/** Bias corrections c1 and c2 of update `t`, of betas as f32 holds them. */
export function corrections({ adamBeta1, adamBeta2 }: AdamWOptions, t: number): readonly [c1: number, c2: number] {
  return [1 - Math.fround(adamBeta1) ** t, Math.sqrt(1 - Math.fround(adamBeta2) ** t)];
}

/** The new moments of one element, in f64. */
export function moments(options: AdamWOptions, m: number, v: number, g: number): readonly [m: number, v: number] {
  if (!Number.isFinite(g)) return [0, 0];
  const [beta1, beta2] = [Math.fround(options.adamBeta1), Math.fround(options.adamBeta2)];
  return [beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g];
}

/** One element's new value from its new moments, in f64; decay comes after the update. */
export function updated(options: AdamWOptions, lr: number, t: number, p: number, m: number, v: number): number {
  const [c1, c2] = corrections(options, t);
  const moved = p - ((lr * c2) / c1) * (m / (Math.sqrt(v) + c2 * options.adamEpsilon));
  return moved * (1 - lr * options.weightDecay);
}

/** One 32-bit AdamW update in f64; `grad` is already unscaled and clipped. */
export function adamWReference(
  state: AdamWReferenceState,
  grad: ArrayLike<number>,
  options: AdamWOptions,
  lr: number,
  t: number,
): void {
  for (let i = 0; i < grad.length; i++) {
    const [m, v] = moments(options, state.m[i]!, state.v[i]!, grad[i]!);
    state.m[i] = m;
    state.v[i] = v;
    if (Number.isFinite(grad[i]!)) state.value[i] = updated(options, lr, t, state.value[i]!, m, v);
  }
}
