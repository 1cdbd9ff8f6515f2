/** Attention from the last row of each sample alone: all that a classifier's last block needs of it. */
import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type KernelSpec } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import attentionCommon from "../attention/common.wgsl" with { type: "text" };
import { attentionDelta, checkOptions } from "../attention/index.ts";
import type { AttentionOptions } from "../attention/options.ts";
import common from "./common.wgsl" with { type: "text" };
import gatherCode from "./gather.wgsl" with { type: "text" };
import lseCode from "./lse.wgsl" with { type: "text" };
import productsCode from "./products.wgsl" with { type: "text" };
import scatterCode from "./scatter.wgsl" with { type: "text" };
import scoresCode from "./scores.wgsl" with { type: "text" };

/** Options of `attention`, and the last row of each sample: [B] u32, ascending (`batch.lastTokens`). */
export interface PooledAttentionOptions extends Omit<AttentionOptions, "maxSeqlen" | "pairs"> {
  readonly lastTokens: Tensor;
}

const THREADS = 64;
const NO_WINDOW = 0xffffffff;

const CODES = {
  scores: scoresCode,
  lse: lseCode,
  gather: gatherCode,
  products: productsCode,
  scatter: scatterCode,
} as const;

/** Runs a kernel whose last tensor (of `lse`, two) is what it writes; `weights` where its factors are scores. */
function run(
  gpu: Gpu,
  part: keyof typeof CODES,
  tensors: readonly Tensor[],
  options: PooledAttentionOptions,
  weights = false,
): void {
  const { heads, kvHeads, headDim, scale, softcap, lastTokens, segments } = options;
  const spec = (): KernelSpec => ({
    code: attentionCommon + common + CODES[part],
    bindings: tensors.map((_, i) => (i < tensors.length - (part === "lse" ? 2 : 1) ? "read" : "write")),
    uniforms: {
      rows: "u32",
      samples: "u32",
      heads: "u32",
      kv_heads: "u32",
      window: "u32",
      scale: "f32",
      softcap: "f32",
    },
    constants: { D4: headDim / 4, THREADS, WEIGHTS: Number(weights) },
    types: { X: gpu.computeDtype },
  });
  const [rows, samples] = [segments.shape[0]!, lastTokens.shape[0]!];
  const window = options.window === 0 ? NO_WINDOW : options.window;
  const written = elementCount(tensors.at(-1)!.shape);
  const byElement = part === "lse" || part === "scores" || part === "products";
  gpu.dispatch(
    gpu.kernel(`pooled-attention/${part}/${weights}/${gpu.computeDtype}/${headDim}`, spec),
    tensors,
    { rows, samples, heads, kv_heads: kvHeads, window, scale, softcap },
    gridFor(written / (byElement ? 1 : 4) / THREADS),
  );
}

const op: Op<PooledAttentionOptions> = {
  name: "pooledAttention",
  forward(tape, [q, k, v], options) {
    const { gpu } = tape;
    const { segments, lastTokens, heads } = options;
    const out = tape.like(q!, "attention");
    const scores = tape.alloc([segments.shape[0]!, heads], "f32", "attention scores");
    const lse = tape.alloc([lastTokens.shape[0]!, heads], "f32", "attention lse");
    run(gpu, "scores", [q!, k!, segments, lastTokens, scores], options);
    const maxima = tape.like(lse, "attention maxima");
    run(gpu, "lse", [scores, segments, lastTokens, maxima, lse], options);
    run(gpu, "gather", [v!, segments, lastTokens, scores, maxima, out], options, true);
    tape.release(maxima);
    return { outputs: [out], saved: [q!, k!, v!, out, scores, lse] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    const { gpu } = tape;
    const [q, k, v, out, scores, lse] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const { segments, lastTokens, headDim } = attrs;
    const dOut = dOutputs[0]!;
    const products = tape.like(scores, "d(products)");
    if (needs[0] === true || needs[1] === true) {
      const delta = tape.like(lse, "attention delta");
      attentionDelta(gpu, dOut, out, delta, headDim);
      run(gpu, "products", [dOut, v, segments, lastTokens, scores, lse, delta, products], attrs);
    }
    const [dQ, dK, dV] = [q, k, v].map((input, i) => (needs[i] === true ? tape.like(input) : undefined));
    if (dQ !== undefined) run(gpu, "gather", [k, segments, lastTokens, products, lse, dQ], attrs);
    if (dK !== undefined) run(gpu, "scatter", [q, segments, lastTokens, products, lse, dK], attrs);
    if (dV !== undefined) run(gpu, "scatter", [dOut, segments, lastTokens, scores, lse, dV], attrs, true);
    return [dQ, dK, dV];
  },
};

/**
 * What `attention` gives for the last row of each sample, from that row's query alone.
 * @param q [B,H*D]; @param k [N,K*D]; @param v [N,K*D], in the tier's operand type
 * @returns [B,H*D] in the tier's operand type
 * @throws RangeError for shapes that do not fit the options
 */
export function pooledAttention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, options: PooledAttentionOptions): Tensor {
  checkOptions(options);
  const { segments, lastTokens, heads, kvHeads, headDim } = options;
  const { computeDtype: half } = tape.gpu;
  expectTensor(segments, [-1, 2], "u32");
  expectTensor(lastTokens, [-1], "u32");
  expectTensor(q, [lastTokens.shape[0]!, heads * headDim], half);
  expectTensor(k, [segments.shape[0]!, kvHeads * headDim], half);
  expectTensor(v, [segments.shape[0]!, kvHeads * headDim], half);
  return tape.run(op, [q, k, v], options)[0]!;
}
