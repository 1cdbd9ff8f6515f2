import {
  expectTensor,
  type Gpu,
  gridFor,
  type LowRankBranch,
  ModelError,
  type FrozenWeight,
  type Tensor,
} from "qlora/core";
import {
  lanesFor,
  weightConstants,
  weightKey,
  weightSource,
  weightTensors,
  weightUniforms,
  reduceSource,
} from "qlora/kernels";
import code from "./weight-norm.wgsl" with { type: "text" };

/** Rows of a workgroup, as in weight-norm.wgsl. */
const ROWS = 4;

/**
 * The L2 norm of every row of W + scale * B A, dequantized as it is read; norms [out] f32.
 * @throws ModelError where a row of W is not whole words of eight codes
 */
export function weightNorm(
  gpu: Gpu,
  weight: FrozenWeight,
  { a, b, scale }: Pick<LowRankBranch, "a" | "b" | "scale">,
  norms: Tensor,
): void {
  const { outFeatures, inFeatures, name } = weight;
  if (inFeatures % 8 !== 0) {
    throw new ModelError("DORA_SHAPE", `${name} has ${inFeatures} inputs, expected a multiple of 8`, {
      hint: "Leave this linear out of targetModules.",
    });
  }
  const rank = a.shape[0]!;
  expectTensor(a.value, [rank, inFeatures], "f32");
  expectTensor(b.value, [outFeatures, rank], "f32");
  expectTensor(norms, [outFeatures], "f32");
  const words = inFeatures / 8;
  const lanes = lanesFor(words);
  const kernel = gpu.kernel(`dora/weight-norm/${weightKey(weight)}/${lanes}`, () => ({
    code: weightSource(0, weight) + reduceSource(lanes) + code,
    bindings: ["read", "read", "read", "read", "read", "write"],
    uniforms: { rows: "u32", words: "u32", rank: "u32", scale: "f32", ...weightUniforms },
    constants: weightConstants(weight),
  }));
  const uniforms = { rows: outFeatures, words, rank, scale, zero: 0 };
  gpu.dispatch(kernel, [...weightTensors(weight), a.value, b.value, norms], uniforms, gridFor(outFeatures / ROWS));
}
