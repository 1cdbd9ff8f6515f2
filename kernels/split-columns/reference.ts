/** x [N, sum of sizes] -> [N, size] for each size. */
export function splitColumnsReference(x: ArrayLike<number>, sizes: readonly number[]): Float64Array[] {
  const stride = sizes.reduce((a, b) => a + b, 0);
  return sizes.map((size, part) => {
    const from = sizes.slice(0, part).reduce((a, b) => a + b, 0);
    const rows = x.length / stride;
    return Float64Array.from({ length: rows * size }, (_, i) => x[Math.floor(i / size) * stride + from + (i % size)]!);
  });
}
