/** x [rows,C] times factor / divisor, column by column, in f64. */
export function scaleColumnsReference(
  x: ArrayLike<number>,
  factor: ArrayLike<number>,
  divisor: ArrayLike<number>,
): Float64Array {
  const columns = factor.length;
  return Float64Array.from(x, (value, i) => (value * factor[i % columns]!) / divisor[i % columns]!);
}

/** Gradients of x [rows,C] and of the factor [C]; the divisor is a constant. */
export function scaleColumnsBackward(
  x: ArrayLike<number>,
  factor: ArrayLike<number>,
  divisor: ArrayLike<number>,
  dY: ArrayLike<number>,
): { readonly dX: Float64Array; readonly dFactor: Float64Array } {
  const columns = factor.length;
  const dFactor = new Float64Array(columns);
  for (let i = 0; i < x.length; i++) dFactor[i % columns]! += (dY[i]! * x[i]!) / divisor[i % columns]!;
  return { dX: scaleColumnsReference(dY, factor, divisor), dFactor };
}
