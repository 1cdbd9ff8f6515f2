import { dequantizeNf4, type PackedNf4 } from "../../core/formats/nf4.ts";
import { matmulNNReference, matmulNTReference } from "../matmul/reference.ts";

/** x [N,in] -> y [N,out], in f64 from the dequantized weight. */
export function nf4ForwardReference(x: ArrayLike<number>, weight: PackedNf4): Float64Array {
  const [outFeatures, inFeatures] = weight.shape;
  return matmulNTReference(x, dequantizeNf4(weight), x.length / inFeatures, outFeatures, inFeatures);
}

/** dY [N,out] -> dX [N,in]. */
export function nf4InputGradientReference(dY: ArrayLike<number>, weight: PackedNf4): Float64Array {
  const [outFeatures, inFeatures] = weight.shape;
  return matmulNNReference(dY, dequantizeNf4(weight), dY.length / outFeatures, inFeatures, outFeatures);
}
