import type { Op, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type KernelSpec } from "../../core/device/kernel.ts";
import type { Kernel } from "../../core/device/pipelines.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import keysCode from "./backward-dkv.wgsl" with { type: "text" };
import queriesCode from "./backward-dq.wgsl" with { type: "text" };
import common from "./common.wgsl" with { type: "text" };
import deltaCode from "./delta.wgsl" with { type: "text" };
import { attentionWork } from "./flops.ts";
import forwardCode from "./forward.wgsl" with { type: "text" };
import { matrixServes } from "./matrix-plan.ts";
import { runMatrixBackward, runMatrixForward } from "./matrix.ts";
import type { AttentionOptions, AttentionSaved } from "./options.ts";

/** Rows to a tile, as in common.wgsl. */
const TILE = 32;
const NO_WINDOW = 0xffffffff;

const LAYOUTS = {
  forward: ["read", "read", "read", "read", "write", "write"],
  queries: ["read", "read", "read", "read", "read", "read", "read", "write"],
  keys: ["read", "read", "read", "read", "read", "read", "read", "write"],
  values: ["read", "read", "read", "read", "read", "read", "read", "write"],
} as const;

const CODES = { forward: forwardCode, queries: queriesCode, keys: keysCode, values: keysCode } as const;

/** @throws RangeError for options that no kernel serves */
export function checkOptions({
  heads,
  kvHeads,
  headDim,
  softcap,
  window,
}: Pick<AttentionOptions, "heads" | "kvHeads" | "headDim" | "softcap" | "window">): void {
  if (!(headDim > 0 && headDim <= 256 && headDim % 4 === 0)) {
    throw new RangeError(`attention: head_dim ${headDim}, expected a multiple of 4 up to 256`);
  }
  if (!(kvHeads > 0 && heads % kvHeads === 0)) {
    throw new RangeError(`attention: ${heads} heads cannot share ${kvHeads} kv heads evenly`);
  }
  if (!(softcap >= 0) || !(Number.isInteger(window) && window >= 0)) {
    throw new RangeError(
      `attention: softcap ${softcap}, window ${window}; expected none below 0, and window an integer`,
    );
  }
}

function tiledKernel(gpu: Gpu, part: keyof typeof CODES, headDim: number): Kernel {
  const spec = (): KernelSpec => ({
    code: common + CODES[part],
    bindings: LAYOUTS[part],
    uniforms: { rows: "u32", tiles: "u32", heads: "u32", kv_heads: "u32", window: "u32", scale: "f32", softcap: "f32" },
    constants: { D4: headDim / 4, THREADS: headDim <= 64 ? 64 : 128, OF_KEYS: part === "keys" ? 1 : 0 },
    types: { X: gpu.computeDtype },
  });
  return gpu.kernel(`attention/${part}/${gpu.computeDtype}/${headDim}`, spec);
}

/** Dispatches a kernel over every tile of rows and each head (or kv head, where the tile is one of keys). */
function runTiled(gpu: Gpu, part: keyof typeof CODES, tensors: readonly Tensor[], options: AttentionOptions): void {
  const { heads, kvHeads, scale, softcap } = options;
  const rows = options.segments.shape[0]!;
  const tiles = Math.ceil(rows / TILE);
  const window = options.window === 0 ? NO_WINDOW : options.window;
  const uniforms = { rows, tiles, heads, kv_heads: kvHeads, window, scale, softcap };
  const groups = tiles * (part === "keys" || part === "values" ? kvHeads : heads);
  gpu.dispatch(
    tiledKernel(gpu, part, options.headDim),
    tensors,
    uniforms,
    gridFor(groups),
    attentionWork(options, part),
  );
}

/**
 * out = softmax(cap(q.k * scale)) v per sample and head, and the logarithm of each softmax's denominator.
 * @param q [N,H*D]; @param k [N,K*D]; @param v [N,K*D]; @param out [N,H*D], all in the tier's operand type
 * @param lse [N,H] f32
 * @throws RangeError for shapes that do not fit the options
 */
export function attentionForward(
  gpu: Gpu,
  { q, k, v, out, lse }: Readonly<Record<"q" | "k" | "v" | "out" | "lse", Tensor>>,
  options: AttentionOptions,
): void {
  checkOptions(options);
  const { segments, heads, kvHeads, headDim } = options;
  const rows = q.shape[0]!;
  expectTensor(segments, [rows, 2], "u32");
  expectTensor(q, [rows, heads * headDim], gpu.computeDtype);
  expectTensor(k, [rows, kvHeads * headDim], gpu.computeDtype);
  expectTensor(v, [rows, kvHeads * headDim], gpu.computeDtype);
  expectTensor(out, [rows, heads * headDim], gpu.computeDtype);
  expectTensor(lse, [rows, heads], "f32");
  if (matrixServes(gpu, options, rows)) runMatrixForward(gpu, { q, k, v, out, lse }, options);
  else runTiled(gpu, "forward", [q, k, v, segments, out, lse], options);
}

/** delta [N,H] f32: sum over each head of dOut * out. */
export function attentionDelta(gpu: Gpu, dOut: Tensor, out: Tensor, delta: Tensor, headDim: number): void {
  const [rows, heads] = delta.shape;
  expectTensor(delta, [rows!, heads!], "f32");
  expectTensor(out, [rows!, heads! * headDim], gpu.computeDtype);
  expectTensor(dOut, out.shape, gpu.computeDtype);
  const kernel = gpu.kernel(`attention/delta/${gpu.computeDtype}/${headDim}`, () => ({
    code: deltaCode,
    bindings: ["read", "read", "write"],
    uniforms: { size: "u32" },
    constants: { D4: headDim / 4 },
    types: { X: gpu.computeDtype },
  }));
  const size = rows! * heads!;
  gpu.dispatch(kernel, [dOut, out, delta], { size }, gridFor(size / 8));
}

/** Gradients to compute: queries [N,H*D], keys and values [N,K*D], in the tier's operand type. */
export type AttentionGradients = Readonly<Partial<Record<"queries" | "keys" | "values", Tensor>>>;

/**
 * Gradients of the inputs, recomputing the softmax from `lse`; those that are not given cost nothing. Every element is
 * one thread's sum in a fixed order, so the same input gives the same bits.
 * @throws RangeError for shapes that do not fit the options
 */
export function attentionBackward(
  gpu: Gpu,
  { q, k, v, lse, dOut }: Omit<AttentionSaved, "out">,
  delta: Tensor,
  gradients: AttentionGradients,
  options: AttentionOptions,
): void {
  checkOptions(options);
  expectTensor(dOut, q.shape, gpu.computeDtype);
  const shapes = { queries: q.shape, keys: k.shape, values: v.shape };
  const parts = (["queries", "keys", "values"] as const).filter((part) => gradients[part] !== undefined);
  for (const part of parts) expectTensor(gradients[part]!, shapes[part], gpu.computeDtype);
  if (matrixServes(gpu, options, q.shape[0]!)) {
    runMatrixBackward(gpu, { q, k, v, lse, dOut }, delta, gradients, options);
    return;
  }
  for (const part of parts) {
    runTiled(gpu, part, [q, k, v, options.segments, dOut, lse, delta, gradients[part]!], options);
  }
}

const op: Op<AttentionOptions> = {
  name: "attention",
  forward(tape, [q, k, v], options) {
    const out = tape.like(q!, "attention");
    const lse = tape.alloc([q!.shape[0]!, options.heads], "f32", "attention lse");
    attentionForward(tape.gpu, { q: q!, k: k!, v: v!, out, lse }, options);
    return { outputs: [out], saved: [q!, k!, v!, out, lse] };
  },
  backward(tape, { saved, attrs, dOutputs, needs }) {
    const [q, k, v, out, lse] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const dOut = dOutputs[0]!;
    const delta = tape.like(lse, "attention delta");
    attentionDelta(tape.gpu, dOut, out, delta, attrs.headDim);
    const [queries, keys, values] = [q, k, v].map((input, i) => (needs[i] === true ? tape.like(input) : undefined));
    const gradients: AttentionGradients = {
      ...(queries === undefined ? {} : { queries }),
      ...(keys === undefined ? {} : { keys }),
      ...(values === undefined ? {} : { values }),
    };
    attentionBackward(tape.gpu, { q, k, v, lse, dOut }, delta, gradients, attrs);
    return [queries, keys, values];
  },
};

/**
 * Causal attention over packed samples, flash style: no [T,T] matrix is ever in memory.
 * Row i sees the rows j of its sample with i - window < j <= i.
 * @param q [N,H*D]; @param k [N,K*D]; @param v [N,K*D], in the tier's operand type
 * @returns [N,H*D] in the tier's operand type
 * @throws RangeError for shapes that do not fit the options
 * @see Dao, "FlashAttention-2" (2023); soft-capping as in Gemma 2
 */
export function attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  return tape.run(op, [q, k, v], options)[0]!;
}
