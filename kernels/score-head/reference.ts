/** x [B,C], weight [L,C] -> [B,L], in f64. */
export function linearReference(x: ArrayLike<number>, weight: ArrayLike<number>, columns: number): Float64Array {
  const labels = weight.length / columns;
  return Float64Array.from({ length: (x.length / columns) * labels }, (_, i) => {
    const b = Math.floor(i / labels);
    const l = i % labels;
    let total = 0;
    for (let c = 0; c < columns; c++) total += x[b * columns + c]! * weight[l * columns + c]!;
    return total;
  });
}

/** Gradients of `linearReference` for dY [B,L]. */
export function linearBackwardReference(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  columns: number,
  dY: ArrayLike<number>,
): { dX: Float64Array; dWeight: Float64Array } {
  const labels = weight.length / columns;
  const dX = new Float64Array(x.length);
  const dWeight = new Float64Array(weight.length);
  for (let i = 0; i < dY.length; i++) {
    const b = Math.floor(i / labels);
    const l = i % labels;
    for (let c = 0; c < columns; c++) {
      dX[b * columns + c]! += dY[i]! * weight[l * columns + c]!;
      dWeight[l * columns + c]! += dY[i]! * x[b * columns + c]!;
    }
  }
  return { dX, dWeight };
}
