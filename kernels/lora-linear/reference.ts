import { matmulNNReference, matmulNTReference, matmulTNReference } from "../matmul/reference.ts";

/** One linear in f64: W [out,in], and perhaps A [R,in], B [out,R] and the mask [N,in] of 0 and 1 / (1 - p). */
export interface ReferencePart {
  readonly weight: ArrayLike<number>;
  readonly outFeatures: number;
  readonly branch?:
    | {
        readonly a: ArrayLike<number>;
        readonly b: ArrayLike<number>;
        readonly rank: number;
        readonly scale: number;
        readonly mask: ArrayLike<number>;
      }
    | undefined;
}

/** x [N,in] -> y [N,out]. */
export function projectReference(
  x: ArrayLike<number>,
  rows: number,
  inFeatures: number,
  part: ReferencePart,
): Float64Array {
  const { weight, outFeatures, branch } = part;
  const y = matmulNTReference(x, weight, rows, outFeatures, inFeatures);
  if (branch === undefined) return y;
  const u = matmulNTReference(masked(x, branch.mask), branch.a, rows, branch.rank, inFeatures);
  const low = matmulNTReference(u, branch.b, rows, outFeatures, branch.rank);
  return y.map((v, i) => v + branch.scale * low[i]!);
}

/** dY [N,out] -> dX [N,in], dA [R,in], dB [out,R]. */
export function projectBackwardReference(
  x: ArrayLike<number>,
  dY: ArrayLike<number>,
  rows: number,
  inFeatures: number,
  part: ReferencePart,
): { dX: Float64Array; dA: Float64Array; dB: Float64Array } {
  const { weight, outFeatures, branch } = part;
  const dX = matmulNNReference(dY, weight, rows, inFeatures, outFeatures);
  if (branch === undefined) return { dX, dA: new Float64Array(), dB: new Float64Array() };
  const { a, b, rank, scale, mask } = branch;
  const dropped = masked(x, mask);
  const u = matmulNTReference(dropped, a, rows, rank, inFeatures);
  const dU = matmulNNReference(dY, b, rows, rank, outFeatures).map((v) => scale * v);
  const low = matmulNNReference(dU, a, rows, inFeatures, rank);
  return {
    dX: dX.map((v, i) => v + mask[i]! * low[i]!),
    dA: matmulTNReference(dU, dropped, rank, inFeatures, rows),
    dB: matmulTNReference(dY, u, outFeatures, rank, rows).map((v) => scale * v),
  };
}

const masked = (x: ArrayLike<number>, mask: ArrayLike<number>): Float64Array =>
  Float64Array.from(x, (v, i) => v * mask[i]!);
