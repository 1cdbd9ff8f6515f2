/** The products in f64, row-major. */

/** A [M,K] B [N,K]^T -> [M,N]. */
export function matmulNTReference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  m: number,
  n: number,
  k: number,
): Float64Array {
  return product(
    m,
    n,
    k,
    (i, p) => a[i * k + p]!,
    (p, j) => b[j * k + p]!,
  );
}

/** A [M,K] B [K,N] -> [M,N]. */
export function matmulNNReference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  m: number,
  n: number,
  k: number,
): Float64Array {
  return product(
    m,
    n,
    k,
    (i, p) => a[i * k + p]!,
    (p, j) => b[p * n + j]!,
  );
}

/** A [K,M]^T B [K,N] -> [M,N]. */
export function matmulTNReference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  m: number,
  n: number,
  k: number,
): Float64Array {
  return product(
    m,
    n,
    k,
    (i, p) => a[p * m + i]!,
    (p, j) => b[p * n + j]!,
  );
}

function product(
  m: number,
  n: number,
  k: number,
  a: (row: number, depth: number) => number,
  b: (depth: number, column: number) => number,
): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a(i, p) * b(p, j);
      c[i * n + j] = sum;
    }
  }
  return c;
}
