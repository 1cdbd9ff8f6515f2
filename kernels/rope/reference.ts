/**
 * x [N,heads*D], positions [N], inverseFrequencies [D/2] -> [N,heads*D]: pairs (j, j + D/2) turned by their angle, which
 * is rounded to f32 as the models do; -1 for `direction` is the backward pass. Heads may have columns beyond the pairs, which stay.
 */
export function ropeReference(
  x: ArrayLike<number>,
  columns: number,
  positions: ArrayLike<number>,
  inverseFrequencies: Float32Array,
  direction: 1 | -1 = 1,
  { headDim = 2 * inverseFrequencies.length, factor = 1 }: { headDim?: number; factor?: number } = {},
): Float64Array {
  const half = inverseFrequencies.length;
  return Float64Array.from({ length: x.length }, (_, i) => {
    const row = Math.floor(i / columns);
    const d = i % headDim;
    if (d >= 2 * half) return x[i]!;
    const j = d % half;
    const angle = direction * Math.fround(positions[row]! * inverseFrequencies[j]!);
    const other = d < half ? -x[i + half]! : x[i - half]!;
    return factor * (x[i]! * Math.cos(angle) + other * Math.sin(angle));
  });
}
