import type { Gpu } from "../../core/device/gpu.ts";
import { elementCount, type Tensor } from "../../core/device/tensor.ts";
import { attentionBackward, attentionDelta, attentionForward } from "../../kernels/attention/index.ts";
import type { MatrixPart, MatrixTuning } from "../../kernels/attention/matrix-plan.ts";
import { runMatrixBackward, runMatrixForward } from "../../kernels/attention/matrix.ts";
import type { AttentionOptions } from "../../kernels/attention/options.ts";

export const HEADS = 16;
export const KV_HEADS = 8;
/** Products a kernel computes. */
export const MATRICES: Readonly<Record<MatrixPart, number>> = { forward: 2, queries: 3, keys: 4 };
/** Samples that every variant is checked on. */
export const RAGGED = { lengths: [1, 17, 300, 64, 511, 5, 130], window: 200 };
/** Samples that are timed. */
export const LONG = { lengths: [1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024], window: 0 };

/** Relative L2 distance from tier f16's kernels that a right kernel stays below. */
export const TOLERANCE = 4e-3;

export interface Samples {
  readonly lengths: readonly number[];
  readonly window: number;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** Multiply-adds of one product of a head, causal half only, times two. */
export function operations({ lengths }: Samples, headDim: number): number {
  return 2 * headDim * HEADS * sum(lengths.map((n) => (n * (n + 1)) / 2));
}

/** Random numbers drawn once and repeated; the period is prime, so that no two rows of heads are alike. */
const PERIOD = 1_000_003;
const drawn = Float16Array.from({ length: PERIOD }, () => Math.random() * 2 - 1);

function random(count: number, spread: number): Float16Array<ArrayBuffer> {
  const data = new Float16Array(count);
  const first = Math.floor(Math.random() * PERIOD);
  for (let at = -first; at < count; at += PERIOD) {
    const from = Math.max(0, -at);
    data.set(drawn.subarray(from, Math.min(PERIOD, count - at)), at + from);
  }
  if (spread !== 1) for (let i = 0; i < count; i++) data[i]! *= spread;
  return data;
}

/** Inputs on the host, for every device that is to see the same. Scores are a few units: neither flat nor a single key. */
export function drawInputs({ lengths }: Samples, headDim: number) {
  const rows = sum(lengths) * headDim;
  return {
    q: random(rows * HEADS, 4),
    k: random(rows * KV_HEADS, 2),
    v: random(rows * KV_HEADS, 1),
    dOut: random(rows * HEADS, 1),
  };
}

/** A packed batch on a device, with room for two sets of outputs: `want` of tier f16's kernels, `got` of a variant. */
export function batchOf(
  gpu: Gpu,
  { lengths, window }: Samples,
  headDim: number,
  inputs: ReturnType<typeof drawInputs>,
) {
  const rows = sum(lengths);
  const segments = new Uint32Array(2 * rows);
  let start = 0;
  for (const length of lengths) {
    for (let i = start; i < start + length; i++) segments.set([start, start + length], 2 * i);
    start += length;
  }
  const up = (data: Float16Array<ArrayBuffer>, label: string): Tensor =>
    gpu.upload(data, [rows, data.length / rows], "f16", label);
  const blank = (columns: number, dtype: "f16" | "f32", label: string): Tensor =>
    gpu.alloc([rows, columns], dtype, label);
  const outputs = () => ({
    out: blank(HEADS * headDim, "f16", "out"),
    lse: blank(HEADS, "f32", "lse"),
    queries: blank(HEADS * headDim, "f16", "dQ"),
    keys: blank(KV_HEADS * headDim, "f16", "dK"),
    values: blank(KV_HEADS * headDim, "f16", "dV"),
  });
  const options: AttentionOptions = {
    segments: gpu.upload(segments, [rows, 2], "u32", "segments"),
    heads: HEADS,
    kvHeads: KV_HEADS,
    headDim,
    scale: headDim ** -0.5,
    softcap: 50,
    window,
    maxSeqlen: Math.max(...lengths),
  };
  const { q, k, v, dOut } = inputs;
  return {
    options,
    inputs: { q: up(q, "q"), k: up(k, "k"), v: up(v, "v"), dOut: up(dOut, "dOut") },
    want: outputs(),
    got: outputs(),
    delta: blank(HEADS, "f32", "delta"),
  };
}

export type Batch = ReturnType<typeof batchOf>;
type Output = keyof Batch["got"];

export function freeBatch(gpu: Gpu, { inputs, got, want, delta, options }: Batch): void {
  for (const tensor of [inputs, got, want].flatMap((set) => Object.values(set))) gpu.free(tensor);
  gpu.free(delta);
  gpu.free(options.segments);
}

/** What the kernels of tier f16 compute, in `want` and `delta`. */
export function runReference(gpu: Gpu, { inputs, want, delta, options }: Batch): void {
  attentionForward(gpu, { ...inputs, ...want }, options);
  attentionDelta(gpu, inputs.dOut, want.out, delta, options.headDim);
  const { queries, keys, values } = want;
  attentionBackward(gpu, { ...inputs, ...want }, delta, { queries, keys, values }, options);
}

export function runVariant(
  gpu: Gpu,
  part: MatrixPart,
  { inputs, want, got, delta, options }: Batch,
  t: MatrixTuning,
): void {
  const saved = { ...inputs, lse: want.lse };
  if (part === "forward") runMatrixForward(gpu, { ...inputs, ...got }, options, { forward: t });
  else if (part === "queries") runMatrixBackward(gpu, saved, delta, { queries: got.queries }, options, { queries: t });
  else runMatrixBackward(gpu, saved, delta, { keys: got.keys, values: got.values }, options, { keys: t });
}

export const OUTPUTS: Readonly<Record<MatrixPart, readonly Output[]>> = {
  forward: ["out", "lse"],
  queries: ["queries"],
  keys: ["keys", "values"],
};

/** Fills a part's outputs with NaN. */
export function poison(gpu: Gpu, part: MatrixPart, { got }: Batch): void {
  for (const name of OUTPUTS[part]) {
    const words = Math.ceil(elementCount(got[name].shape) / (got[name].dtype === "f16" ? 2 : 1));
    gpu.write({ ...got[name], shape: [words], dtype: "u32" }, new Uint32Array(words).fill(0xffffffff));
  }
}

export type Outputs = ReadonlyMap<Output, Numbers>;
type Numbers = Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>;

async function numbersOf(gpu: Gpu, t: Tensor): Promise<Numbers> {
  const bytes = await gpu.readBytes(t);
  return t.dtype === "f16" ? new Float16Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

/** Outputs on the host: a part's, or all. */
export async function readOutputs(
  gpu: Gpu,
  from: Batch["got"],
  names: readonly Output[] = ["out", "lse", "queries", "keys", "values"],
): Promise<Outputs> {
  const read: [Output, Numbers][] = [];
  for (const name of names) read.push([name, await numbersOf(gpu, from[name])]);
  return new Map(read);
}

/** Largest relative L2 distance of outputs from the reference, over every `step`th element; NaN shows. */
export function errorOf(got: Outputs, want: Outputs, step: number): number {
  let worst = 0;
  for (const [name, a] of got) {
    const b = want.get(name)!;
    let [error, norm] = [0, 0];
    for (let i = 0; i < a.length; i += step) {
      error += (a[i]! - b[i]!) ** 2;
      norm += b[i]! ** 2;
    }
    worst = Math.max(worst, Math.sqrt(error / norm));
    if (!Number.isFinite(error / norm)) worst = Number.NaN;
  }
  return worst;
}
