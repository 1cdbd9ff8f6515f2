/**
 * Pearson's correlation of two lists, in f64; NaN where one of them is constant, holds a NaN, or has fewer than two values.
 * @example pearsonCorrelation([1, 2, 3], [2, 4, 6]) // 1
 */
export function pearsonCorrelation(x: ArrayLike<number>, y: ArrayLike<number>): number {
  if (x.length !== y.length) throw new RangeError(`${x.length} values beside ${y.length}`);
  const mean = (values: ArrayLike<number>): number => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[i]!;
    return sum / values.length;
  };
  const [meanX, meanY] = [mean(x), mean(y)];
  let [products, squaresX, squaresY] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i]! - meanX, y[i]! - meanY];
    products += dx * dy;
    squaresX += dx * dx;
    squaresY += dy * dy;
  }
  if (!(squaresX > 0 && squaresY > 0)) return Number.NaN;
  return Math.max(-1, Math.min(1, products / Math.sqrt(squaresX) / Math.sqrt(squaresY)));
}

/** Ranks from 1 on; equal values share the mean of theirs. NaN for every value where one is NaN. */
export function averageRanks(values: ArrayLike<number>): Float64Array {
  const list = Array.from(values);
  const ranks = new Float64Array(list.length);
  if (list.some(Number.isNaN)) return ranks.fill(Number.NaN);
  const order = [...list.keys()].sort((a, b) => list[a]! - list[b]!);
  for (let first = 0; first < order.length;) {
    let end = first;
    while (end < order.length && list[order[end]!] === list[order[first]!]) end++;
    for (let i = first; i < end; i++) ranks[order[i]!] = (first + 1 + end) / 2;
    first = end;
  }
  return ranks;
}
