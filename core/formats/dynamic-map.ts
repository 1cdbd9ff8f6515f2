/**
 * The 8-bit dynamic maps of bitsandbytes: 256 f32 values in ascending order, dense near zero. The signed one holds the
 * absmax of double quantization and AdamW's first moment, the unsigned one AdamW's second moment.
 */

const EXPONENT_BITS = 7;

/**
 * `n` points from 0.1 to 1 in f32 as torch.linspace computes them: from whichever end is nearer, the product and the
 * sum rounded once (a fused multiply-add).
 */
function boundaries(n: number): number[] {
  const start = Math.fround(0.1);
  const step = Math.fround(Math.fround(1 - start) / (n - 1));
  const half = Math.floor(n / 2);
  return Array.from({ length: n }, (_, i) => Math.fround(i < half ? start + step * i : 1 - step * (n - 1 - i)));
}

/**
 * The dynamic map `[256]` f32, ascending and distinct; bit-equal to bitsandbytes' `create_dynamic_map`.
 * The signed map has 127 negatives, zero and 128 positives: there is no -1.
 */
export function createDynamicMap(signed: boolean): Float32Array<ArrayBuffer> {
  const values = [0, 1];
  for (let i = 0; i < EXPONENT_BITS; i++) {
    const scale = Math.fround(10 ** (i + 1 - EXPONENT_BITS));
    const edges = boundaries((signed ? 2 ** i : 2 ** (i + 1)) + 1);
    for (let k = 0; k + 1 < edges.length; k++) {
      const mean = Math.fround(Math.fround(edges[k]! + edges[k + 1]!) / 2);
      const value = Math.fround(scale * mean);
      values.push(value);
      if (signed) values.push(-value);
    }
  }
  return Float32Array.from(values).sort();
}

/**
 * Index of the entry of a 256-entry map nearest to an f32: a binary search that ends on an even index, then the
 * midpoint to the neighbor on the side of `x` decides; an exact tie stays at the even index. NaN gives 0.
 * Source: bitsandbytes csrc/kernels.cu, `dQuantize` and `quantize_2D`.
 */
export function nearestCode(map: Float32Array, x: number): number {
  if (Number.isNaN(x)) return 0;
  let pivot = 127;
  for (let stride = 64; stride >= 1; stride >>= 1) pivot += x > map[pivot]! ? stride : -stride;
  const value = map[pivot]!;
  const above = x > value;
  const neighbor = above ? Math.min(pivot + 1, 255) : Math.max(pivot - 1, 0);
  const middle = Math.fround(Math.fround(map[neighbor]! + value) * 0.5);
  return above ? (x > middle ? neighbor : pivot) : x < middle ? neighbor : pivot;
}
