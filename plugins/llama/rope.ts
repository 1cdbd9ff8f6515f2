/** RoPE's inverse frequencies with the scalings that these models use. Source: transformers, modeling_rope_utils.py. */
import { ropeInverseFrequencies } from "qlora/kernels";

/** `rope_parameters` in config.json, `rope_scaling` before transformers 5. */
export type RopeScaling =
  | { readonly type: "default" }
  /** Every position divided by `factor`. */
  | { readonly type: "linear"; readonly factor: number }
  /** Llama 3.1: long wavelengths by `factor`, short ones not, those between in part. */
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

/** [D/2]: formed in f64, rounded to f32. */
export function scaledFrequencies(headDim: number, theta: number, scaling: RopeScaling): Float32Array<ArrayBuffer> {
  const plain = ropeInverseFrequencies(headDim, theta);
  switch (scaling.type) {
    case "default":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3":
      return plain.map((frequency) => {
        const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
        const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
        if (turns > highFreqFactor) return frequency;
        if (turns < lowFreqFactor) return frequency / factor;
        const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return ((1 - smooth) * frequency) / factor + smooth * frequency;
      });
  }
}
