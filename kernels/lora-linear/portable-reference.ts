import { dequantize4bit, type Packed4bit } from "../../core/formats/nf4.ts";
import { matmulNNReference, matmulNTReference } from "../matmul/reference.ts";

/** x [N,in] -> y [N,out], in f64 from the dequantized weight. */
export function frozenForwardReference(x: ArrayLike<number>, weight: Packed4bit): Float64Array {
  const [outFeatures, inFeatures] = weight.shape;
  return matmulNTReference(x, dequantize4bit(weight), x.length / inFeatures, outFeatures, inFeatures);
}

/** dY [N,out] -> dX [N,in]. */
export function frozenInputGradientReference(dY: ArrayLike<number>, weight: Packed4bit): Float64Array {
  const [outFeatures, inFeatures] = weight.shape;
  return matmulNNReference(dY, dequantize4bit(weight), dY.length / outFeatures, inFeatures, outFeatures);
}
