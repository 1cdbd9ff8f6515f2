/** Sum of products. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`${a.length} elements against ${b.length}`);
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!;
  return total;
}

/** Euclidean length. */
export function norm(a: ArrayLike<number>): number {
  return Math.sqrt(dot(a, a));
}

/** Derivative of `f` at `x` along `direction`, by central differences of the fourth order: exact up to step^4. */
export function directional(
  f: (x: Float64Array) => number,
  x: Float64Array,
  direction: Float64Array,
  step: number,
): number {
  const at = (shift: number): number => f(x.map((value, i) => value + shift * step * direction[i]!));
  return (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step);
}

/** All partial derivatives of `f` at `x`, likewise. */
export function differences(f: (x: Float64Array) => number, x: Float64Array, step: number): Float64Array {
  return x.map((value, i) => {
    const at = (shift: number): number => {
      const moved = x.slice();
      moved[i] = value + shift * step;
      return f(moved);
    };
    return (at(-2) - 8 * at(-1) + 8 * at(1) - at(2)) / (12 * step);
  });
}
