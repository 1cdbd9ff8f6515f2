import {
  expectTensor,
  type Gpu,
  gridFor,
  type LowRankBranch,
  ModelError,
  type Nf4Weight,
  type Tensor,
} from "qlora/core";
import { lanesFor, nf4Constants, nf4Key, nf4Source, nf4Tensors, nf4Uniforms, reduceSource } from "qlora/kernels";
import code from "./weight-norm.wgsl" with { type: "text" };

/** Rows of a workgroup, as in weight-norm.wgsl. */
const ROWS = 4;

/**
 * The L2 norm of every row of W + scale * B A, dequantized as it is read; norms [out] f32.
 * @throws ModelError where a row of W is not whole words of eight codes
 */
export function weightNorm(
  gpu: Gpu,
  weight: Nf4Weight,
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
  const kernel = gpu.kernel(`dora/weight-norm/${nf4Key(weight)}/${lanes}`, () => ({
    code: nf4Source(0) + reduceSource(lanes) + code,
    bindings: ["read", "read", "read", "read", "read", "write"],
    uniforms: { rows: "u32", words: "u32", rank: "u32", scale: "f32", ...nf4Uniforms },
    constants: nf4Constants(weight),
  }));
  const uniforms = { rows: outFeatures, words, rank, scale, nested_offset: weight.nestedOffset, zero: 0 };
  gpu.dispatch(kernel, [...nf4Tensors(weight), a.value, b.value, norms], uniforms, gridFor(outFeatures / ROWS));
}
