/** Quantizing on the GPU, as bitsandbytes does it. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, wgslFloat } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { DEFAULT_BLOCK_SIZE, codeRules } from "../../core/formats/nf4.ts";
import quantizeCode from "./quantize.wgsl" with { type: "text" };

const { thresholds } = codeRules.nf4;
const thresholdSource = `const THRESHOLDS = array<f32, 15>(${Array.from(thresholds, wgslFloat).join(", ")});\n`;

/**
 * Quantizes `values` f32 (flattened, blocks of 64) as bitsandbytes does: the block times the reciprocal of its absmax,
 * a tie between two codes to the lower one. Blocks whose absmax is outside 2^-126 … 2^126 become zeros.
 * @param codes u32 [ceil(n/8)]
 * @param absmax f32 [ceil(n/64)]
 */
export function quantize(gpu: Gpu, values: Tensor, codes: Tensor, absmax: Tensor): void {
  const size = elementCount(values.shape);
  expectTensor(values, values.shape, "f32");
  expectTensor(codes, [Math.ceil(size / 8)], "u32");
  expectTensor(absmax, [Math.ceil(size / DEFAULT_BLOCK_SIZE)], "f32");
  const kernel = gpu.kernel("nf4/quantize", () => ({
    code: thresholdSource + quantizeCode,
    bindings: ["read", "write", "write"],
    uniforms: { size: "u32" },
  }));
  gpu.dispatch(kernel, [values, codes, absmax], { size }, gridFor(size / DEFAULT_BLOCK_SIZE / 64));
}
