import { expect } from "bun:test";

/** How near is near enough: |got - want| <= atol + rtol * |want|. */
export interface Tolerance {
  readonly rtol?: number;
  readonly atol?: number;
}

/** Fails naming the worst element unless all are within tolerance; NaN never is. */
export function expectClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { rtol = 0, atol = 0 }: Tolerance,
  what = "values",
): void {
  if (got.length !== want.length) throw new Error(`${what}: got ${got.length} elements, want ${want.length}`);
  let worst = -1;
  let excess = 0;
  for (let i = 0; i < want.length; i++) {
    const difference = Math.abs(got[i]! - want[i]!);
    const allowed = atol + rtol * Math.abs(want[i]!);
    if (!(difference <= allowed) && (worst < 0 || !(difference - allowed <= excess))) {
      worst = i;
      excess = difference - allowed;
    }
  }
  if (worst >= 0)
    throw new Error(`${what}: worst at ${worst}: got ${got[worst]}, want ${want[worst]} (rtol ${rtol}, atol ${atol})`);
  expect(worst).toBe(-1);
}

/** Fails naming the worst element unless each is at most its own bound away; NaN never is. */
export function expectWithin(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  bounds: ArrayLike<number>,
  what = "values",
): void {
  if (got.length !== want.length || bounds.length !== want.length)
    throw new Error(`${what}: got ${got.length} elements and ${bounds.length} bounds, want ${want.length}`);
  let worst = -1;
  let most = 1; // of its bound
  for (let i = 0; i < want.length; i++) {
    const share = Math.abs(got[i]! - want[i]!) / bounds[i]!;
    if (share <= most || Number.isNaN(most)) continue;
    worst = i;
    most = share;
  }
  if (worst >= 0)
    throw new Error(`${what}: worst at ${worst}: got ${got[worst]}, want ${want[worst]} within ${bounds[worst]}`);
  expect(worst).toBe(-1);
}

/** ||got - want|| / ||want||; NaN where anything is not finite. */
export function relativeL2(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) throw new Error(`got ${got.length} elements, want ${want.length}`);
  let error = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return Math.sqrt(error / norm);
}

/** Fails unless the relative L2 distance is at most `limit`. */
export function expectNear(got: ArrayLike<number>, want: ArrayLike<number>, limit: number, what = "values"): void {
  const distance = relativeL2(got, want);
  if (!(distance <= limit))
    throw new Error(`${what}: relative L2 error ${distance.toExponential(2)}, allowed ${limit}`);
  expect(distance).toBeLessThanOrEqual(limit);
}
