/**
 * What an author of kernels, ops, models, adapters and optimizers builds with: `import { gridFor, type Gpu } from
 * "qlora/kernels"`. First the building blocks (device, tensor, kernel, tape, parameters), then every op and launcher that
 * ships. A kernel of your own is WGSL text and a launcher:
 *
 * @example
 * const code = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
 * @compute @workgroup_size(256) fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
 *   @builtin(local_invocation_index) lane: u32) {
 *   let i = group_index(wg, count) * 256u + lane;
 *   if (i < params.size) { x[i] *= params.factor; }
 * }`;
 * export function scale(gpu: Gpu, x: Tensor, factor: number): void {
 *   expectTensor(x, x.shape, "f32");
 *   const size = elementCount(x.shape);
 *   const kernel = gpu.kernel("my/scale", () => ({ code, bindings: ["write"], uniforms: { size: "u32", factor: "f32" } }));
 *   gpu.dispatch(kernel, [x], { size, factor }, gridFor(size / 256));
 * }
 */
// oxlint-disable-next-line typescript/triple-slash-reference -- a compiler of this file needs the type of .wgsl imports
/// <reference path="../wgsl.d.ts" />

// ---- a kernel: WGSL with what the prelude declares for it, and its grid
export { lanesFor, reduceSource } from "./reduce.ts";
export { variantFor } from "./variant.ts";
export { MATRIX_DIRECTIVES, type OperandTile, SubgroupTile } from "./matmul-matrix/subgroup-tile.ts";
export { matrixUnit, type MatrixUnit } from "./matmul-matrix/tiling.ts";
export { sourceOrInPlace, vectorSource, type Width, widthOf } from "./vector.ts";

// ---- elementwise
export { addBias, addResidual, addScaled } from "./add/index.ts";
export { neftune, type NeftuneOptions } from "./neftune/index.ts";
export { dropout, type DropoutOptions, dropoutScale, dropoutSource, dropoutThreshold } from "./dropout/index.ts";
export { type GateActivation, glu } from "./glu/index.ts";
export { scaleColumns } from "./scale-columns/index.ts";
export { softcap } from "./softcap/index.ts";

// ---- a transformer's parts
export { attention } from "./attention/index.ts";
export { visiblePairs } from "./attention/flops.ts";
export { embedding, type EmbeddingChunk } from "./embedding/index.ts";
export { type EmbeddingPlace, loadTokenTable, type TokenTable, type TokenTableOptions } from "./embedding/table.ts";
export { lastToken } from "./last-token/index.ts";
export { type PooledBlock, runPooledBlocks } from "./last-token/blocks.ts";
export { pooledAttention, type PooledAttentionOptions } from "./pooled-attention/index.ts";
export { addNorm, rmsNorm, type RmsNormOptions } from "./rms-norm/index.ts";
export { addNormThenNorm } from "./rms-norm/pair.ts";
export { splitColumns } from "./split-columns/index.ts";
export { rope, ropeInverseFrequencies } from "./rope/index.ts";
export { scaledFrequencies } from "./rope/scaling.ts";

// ---- the frame of a decoder that classifies: loading, head, pooling; a model adds its block
export {
  type BlockPass,
  decoderClassifier,
  type DecoderOutline,
  type DecoderParts,
  type DecoderPlacement,
  decoderSpec,
  type DecoderWeights,
  loadDecoder,
} from "./decoder/index.ts";
export { decoderLoader, type DecoderLoaderParts, type DecoderOptions } from "./decoder/loader.ts";

// ---- products
export { denseLinear } from "./lora-linear/dense.ts";
export { scoreHead } from "./score-head/index.ts";
export { matmulNN, matmulNT, type MatmulOptions, matmulTN, type OperandDropout } from "./matmul/index.ts";
export {
  gemm,
  type GemmOptions,
  type GemmShape,
  gemmSupports,
  type GemmTerm,
  keepTransposed,
} from "./matmul-matrix/index.ts";

export { adaptedLinears, loraLinears } from "./lora-linear/index.ts";

// ---- frozen weights, in 4 bits or dense
export { dequantize, freeWeight, quantize, upload4bit, uploadDense } from "./nf4/index.ts";
export { loadWeight, type WeightSpec } from "./nf4/load.ts";
export { weightConstants, weightKey, weightSource, weightTensors, weightUniforms } from "./nf4/index.ts";

// ---- losses
export { crossEntropy, crossEntropySoft } from "./cross-entropy/index.ts";
export { meanSquaredError } from "./mean-squared-error/index.ts";
export { binaryCrossEntropy } from "./binary-cross-entropy/index.ts";
export { bradleyTerry } from "./bradley-terry/index.ts";

// ---- optimizer steps and what the loop measures of gradients
export { adamWOptionShape } from "./adamw/options.ts";
export { type AdamWOptions, type AdamWScalars, adamWScalars, type AdamWState, adamWStep } from "./adamw/index.ts";
export { type AdamW8bitState, adamW8bitStep, ADAMW8BIT_BLOCK_SIZE, ADAMW8BIT_QUANTIZED } from "./adamw8bit/index.ts";
export { gradNorm, type GradNormOptions } from "./grad-norm/index.ts";
export { countNonFinite } from "./non-finite/index.ts";
export { type AttentionOptions } from "./attention/options.ts";
export { type LoraLinearOptions, type LoraLinearPart } from "./lora-linear/attrs.ts";
