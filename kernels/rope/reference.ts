/**
 * x [N,heads*D], positions [N], inverseFrequencies [D/2] -> [N,heads*D]: pairs (j, j + D/2) turned by their angle, which
 * is rounded to f32 as the models do; -1 for `direction` is the backward pass.
 */
export function ropeReference(
  x: ArrayLike<number>,
  columns: number,
  positions: ArrayLike<number>,
  inverseFrequencies: Float32Array,
  direction: 1 | -1 = 1,
): Float64Array {
  const half = inverseFrequencies.length;
  return Float64Array.from({ length: x.length }, (_, i) => {
    const row = Math.floor(i / columns);
    const d = i % (2 * half);
    const j = d % half;
    const angle = direction * Math.fround(positions[row]! * inverseFrequencies[j]!);
    const other = d < half ? -x[i + half]! : x[i - half]!;
    return x[i]! * Math.cos(angle) + other * Math.sin(angle);
  });
}
