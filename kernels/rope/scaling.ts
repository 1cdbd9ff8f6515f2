/** RoPE's inverse frequencies with the scalings of published models. Source: transformers, modeling_rope_utils.py. */
import type { RopeConfig } from "../../core/formats/decoder-config.ts";
import { ropeInverseFrequencies } from "./index.ts";

/**
 * Inverse frequencies [D/2] of a model's RoPE: formed in f64, rounded to f32.
 * @example scaledFrequencies(128, { ropeTheta: 10_000, ropeScaling: { type: "linear", factor: 4 } })[0]; // 0.25
 */
export function scaledFrequencies(headDim: number, { ropeTheta, ropeScaling }: RopeConfig): Float32Array<ArrayBuffer> {
  const plain = ropeInverseFrequencies(headDim, ropeTheta);
  switch (ropeScaling.type) {
    case "default":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / ropeScaling.factor);
    case "llama3":
      return plain.map((frequency) => {
        const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = ropeScaling;
        const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
        if (turns > highFreqFactor) return frequency;
        if (turns < lowFreqFactor) return frequency / factor;
        const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return ((1 - smooth) * frequency) / factor + smooth * frequency;
      });
  }
}
