/** x [N,C], lastTokens [B] -> [B,C]. */
export function poolReference(x: ArrayLike<number>, columns: number, lastTokens: ArrayLike<number>): Float64Array {
  return Float64Array.from(
    { length: lastTokens.length * columns },
    (_, i) => x[lastTokens[Math.floor(i / columns)]! * columns + (i % columns)]!,
  );
}

/** dX [N,C] for dY [B,C]: zero outside the last tokens. */
export function poolBackwardReference(
  rows: number,
  columns: number,
  lastTokens: ArrayLike<number>,
  dY: ArrayLike<number>,
): Float64Array {
  const dX = new Float64Array(rows * columns);
  for (let b = 0; b < lastTokens.length; b++) {
    for (let c = 0; c < columns; c++) dX[lastTokens[b]! * columns + c] = dY[b * columns + c]!;
  }
  return dX;
}
