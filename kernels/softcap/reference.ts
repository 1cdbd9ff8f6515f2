/** cap * tanh(x / cap), in f64. */
export function softcapReference(x: ArrayLike<number>, cap: number): Float64Array {
  return Float64Array.from(x, (v) => cap * Math.tanh(v / cap));
}

/** Gradient of `softcapReference` for dY. */
export function softcapBackwardReference(x: ArrayLike<number>, cap: number, dY: ArrayLike<number>): Float64Array {
  return Float64Array.from(x, (v, i) => dY[i]! / Math.cosh(v / cap) ** 2);
}
