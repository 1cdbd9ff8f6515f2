/** One product of a sum: columns `column … column + depth` of a [rows, stride] times b [depth, columns]. */
export interface ReferenceTerm {
  readonly a: ArrayLike<number>;
  readonly b: ArrayLike<number>;
  readonly depth: number;
  readonly stride?: number;
  readonly column?: number;
}

/** `sum over terms of a * b`, [rows, columns], in f64. */
export function gemmReference(terms: readonly ReferenceTerm[], rows: number, columns: number): Float64Array {
  const c = new Float64Array(rows * columns);
  for (const { a, b, depth, stride = depth, column = 0 } of terms) {
    for (let row = 0; row < rows; row++) {
      for (let k = 0; k < depth; k++) {
        const x = a[row * stride + column + k]!;
        if (x === 0) continue;
        for (let j = 0; j < columns; j++) c[row * columns + j]! += x * b[k * columns + j]!;
      }
    }
  }
  return c;
}

/** [rows, columns] as [columns, rows]. */
export function transposed(a: ArrayLike<number>, rows: number, columns: number): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = a[r * columns + c]!;
  return out;
}

/** Elementwise product, in f64. */
export function times(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  return Float64Array.from(a, (x, i) => x * b[i]!);
}
