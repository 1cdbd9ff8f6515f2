/** x [N,C], weight [C] -> [N,C]: x / sqrt(mean(x^2) + eps) * (offset + weight), in f64. */
export function rmsNormReference(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  eps: number,
  offset: number,
): Float64Array {
  const columns = weight.length;
  const scales = inverseRms(x, columns, eps);
  return Float64Array.from(x, (v, i) => v * scales[Math.floor(i / columns)]! * (offset + weight[i % columns]!));
}

/** dX [N,C] of `rmsNormReference` for dY [N,C]. */
export function rmsNormBackwardReference(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  eps: number,
  offset: number,
  dY: ArrayLike<number>,
): Float64Array {
  const columns = weight.length;
  const scales = inverseRms(x, columns, eps);
  const dX = new Float64Array(x.length);
  for (const [row, scale] of scales.entries()) {
    let dot = 0;
    for (let c = 0; c < columns; c++) dot += dY[row * columns + c]! * (offset + weight[c]!) * x[row * columns + c]!;
    for (let c = 0; c < columns; c++) {
      const i = row * columns + c;
      dX[i] = scale * dY[i]! * (offset + weight[c]!) - (scale ** 3 * x[i]! * dot) / columns;
    }
  }
  return dX;
}

function inverseRms(x: ArrayLike<number>, columns: number, eps: number): Float64Array {
  return Float64Array.from({ length: x.length / columns }, (_, row) => {
    let squares = 0;
    for (let c = 0; c < columns; c++) squares += x[row * columns + c]! ** 2;
    return 1 / Math.sqrt(squares / columns + eps);
  });
}
