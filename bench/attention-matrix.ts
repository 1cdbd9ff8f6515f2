/**
 * Attention on subgroup matrices, variant by variant: `bun bench/attention-matrix.ts [head_dim …] [forward|queries|keys …]`.
 * Each variant is checked against the kernels of tier f16 on ragged samples with window and soft-cap (outputs poisoned
 * first) and on the batch that is timed. `--check` validates every variant on Dawn's Null backend and runs nothing.
 */
import { Gpu, validateKernels } from "../core/device/index.ts";
import type { Tensor } from "../core/tensor.ts";
import {
  attentionBackward,
  attentionDelta,
  attentionForward,
  type AttentionOptions,
} from "../kernels/attention/index.ts";
import { runMatrixBackward, runMatrixForward } from "../kernels/attention/matrix.ts";
import { type MatrixPart, type MatrixTuning, planOf } from "../kernels/attention/matrix-plan.ts";
import { Clock } from "./gemm/clock.ts";
import { benchGpu, collectingGpu } from "./gemm/device.ts";

const HEADS = 16;
const KV_HEADS = 8;
const MATRICES = { forward: 2, queries: 3, keys: 4 } as const;
const RAGGED = [1, 17, 300, 64, 511, 5, 130];
const LONG = [1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024];

const tuning = (
  warps: number,
  split: 1 | 2,
  rowBlocks: 1 | 2,
  columns: 16 | 32,
  packed: number,
  prefetch = false,
): MatrixTuning => ({
  warps,
  split,
  rowBlocks,
  columns,
  packed,
  prefetch,
});

const VARIANTS: Readonly<Record<MatrixPart, Readonly<Record<string, readonly MatrixTuning[]>>>> = {
  forward: {
    256: [
      tuning(8, 1, 1, 16, 2),
      tuning(8, 1, 1, 16, 1),
      tuning(8, 2, 2, 16, 2),
      tuning(8, 2, 2, 16, 1),
      tuning(16, 2, 1, 16, 2),
      tuning(8, 2, 1, 16, 2),
      tuning(4, 2, 2, 16, 2),
      tuning(4, 1, 1, 16, 2),
    ],
    128: [
      tuning(8, 1, 1, 32, 2),
      tuning(8, 1, 1, 16, 2),
      tuning(4, 1, 2, 32, 2),
      tuning(4, 1, 2, 16, 2),
      tuning(8, 1, 2, 16, 2),
      tuning(4, 1, 1, 32, 2),
      tuning(8, 2, 2, 16, 2),
    ],
  },
  queries: {
    256: [
      tuning(8, 2, 1, 16, 2, true),
      tuning(8, 2, 1, 16, 2, false),
      tuning(8, 2, 1, 16, 1, true),
      tuning(4, 2, 1, 16, 2, true),
      tuning(4, 2, 1, 16, 2, false),
    ],
    128: [
      tuning(8, 1, 1, 16, 2, true),
      tuning(8, 1, 1, 16, 2, false),
      tuning(4, 1, 1, 16, 2, true),
      tuning(4, 1, 1, 32, 2, true),
      tuning(4, 2, 2, 16, 2, true),
    ],
  },
  keys: {
    256: [
      tuning(8, 2, 1, 16, 1, false),
      tuning(8, 2, 1, 16, 1, true),
      tuning(4, 2, 1, 16, 1, false),
      tuning(4, 2, 1, 16, 1, true),
    ],
    128: [
      tuning(8, 1, 1, 16, 1, false),
      tuning(8, 1, 1, 16, 1, true),
      tuning(4, 1, 1, 16, 1, false),
      tuning(4, 1, 1, 16, 1, true),
      tuning(4, 1, 1, 32, 1, false),
      tuning(4, 2, 2, 16, 1, false),
    ],
  },
};

const nameOf = (t: MatrixTuning): string =>
  `${t.warps} warps, split ${t.split}, blocks ${t.rowBlocks}, columns ${t.columns}, packed ${t.packed}${t.prefetch ? ", prefetch" : ""}`;

/** A packed batch of random inputs and poisoned outputs. */
function batchOf(gpu: Gpu, lengths: readonly number[], headDim: number, window: number) {
  const rows = lengths.reduce((a, b) => a + b, 0);
  const segments = new Uint32Array(2 * rows);
  let start = 0;
  for (const length of lengths) {
    for (let i = start; i < start + length; i++) segments.set([start, start + length], 2 * i);
    start += length;
  }
  const random = (heads: number, label: string, spread: number): Tensor => {
    const data = new Float16Array(rows * heads * headDim);
    for (let i = 0; i < data.length; i++) data[i] = (Math.random() * 2 - 1) * spread;
    return gpu.upload(data, [rows, heads * headDim], "f16", label);
  };
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
    longest: Math.max(...lengths),
    causal: true,
  };
  return {
    rows,
    pairs: lengths.reduce((sum, n) => sum + (n * (n + 1)) / 2, 0),
    options,
    // Scores of a few units: the softmax is neither flat nor a single key.
    inputs: {
      q: random(HEADS, "q", 4),
      k: random(KV_HEADS, "k", 2),
      v: random(KV_HEADS, "v", 1),
      dOut: random(HEADS, "dOut", 1),
    },
    want: outputs(),
    got: outputs(),
    delta: blank(HEADS, "f32", "delta"),
  };
}

type Batch = ReturnType<typeof batchOf>;
type Output = keyof Batch["got"];

/** What the kernels of tier f16 compute, in `want` and `delta`. */
function runReference(gpu: Gpu, { inputs, want, delta, options }: Batch): void {
  attentionForward(gpu, { ...inputs, ...want }, options);
  attentionDelta(gpu, inputs.dOut, want.out, delta, options.headDim);
  const { queries, keys, values } = want;
  attentionBackward(gpu, { ...inputs, ...want }, delta, { queries, keys, values }, options);
}

function runVariant(gpu: Gpu, part: MatrixPart, { inputs, want, got, delta, options }: Batch, t: MatrixTuning): void {
  const saved = { ...inputs, lse: want.lse };
  if (part === "forward") runMatrixForward(gpu, { ...inputs, ...got }, options, { forward: t });
  else if (part === "queries") runMatrixBackward(gpu, saved, delta, { queries: got.queries }, options, { queries: t });
  else runMatrixBackward(gpu, saved, delta, { keys: got.keys, values: got.values }, options, { keys: t });
}

const OUTPUTS: Readonly<Record<MatrixPart, readonly Output[]>> = {
  forward: ["out", "lse"],
  queries: ["queries"],
  keys: ["keys", "values"],
};

/** Largest relative L2 distance of a part's outputs from the reference, over every `step`th element; NaN shows. */
async function errorOf(gpu: Gpu, part: MatrixPart, { got, want }: Batch, step: number): Promise<number> {
  let worst = 0;
  for (const name of OUTPUTS[part]) {
    const numbers = async (t: Tensor): Promise<Float32Array | Float16Array> => {
      const bytes = await gpu.readBytes(t);
      return t.dtype === "f16" ? new Float16Array(bytes.buffer) : new Float32Array(bytes.buffer);
    };
    const [a, b] = [await numbers(got[name]), await numbers(want[name])];
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

const asked = process.argv.slice(2);
const check = asked.includes("--check");
const dims = asked.filter((a) => /^\d+$/.test(a)).map(Number);
const parts = (["forward", "queries", "keys"] as const).filter((p) => asked.includes(p));
const todo = (dims.length > 0 ? dims : [256, 128]).flatMap((headDim) =>
  (parts.length > 0 ? parts : (["forward", "queries", "keys"] as const)).flatMap((part) =>
    (VARIANTS[part][headDim] ?? []).map((t) => ({ headDim, part, t })),
  ),
);
const headDims = [...new Set(todo.map(({ headDim }) => headDim))];
for (const { headDim, part, t } of todo) {
  const { workgroupBytes } = planOf(part, { heads: HEADS, kvHeads: KV_HEADS, headDim }, t);
  if (workgroupBytes > 49152)
    throw new Error(`${part} ${headDim} ${nameOf(t)}: ${workgroupBytes} bytes of workgroup memory`);
}

const UNIT = { m: 16, n: 16, k: 16, lanes: 32 };

/** The kernels of variants of one head size, and the key of each variant's. */
function collect(
  variants: typeof todo,
  headDim: number,
): { readonly specs: Gpu["kernelSpecs"]; readonly keys: string[] } {
  const gpu = collectingGpu(UNIT);
  const batch = batchOf(gpu, [20], headDim, 0);
  const keys = variants.map(({ part, t }) => {
    runVariant(gpu, part, batch, t);
    return [...gpu.kernelSpecs.keys()].at(-1)!;
  });
  return { specs: gpu.kernelSpecs, keys };
}

async function validate(): Promise<void> {
  let count = 0;
  let failures = 0;
  for (const headDim of headDims) {
    const { specs } = collect(
      todo.filter((v) => v.headDim === headDim),
      headDim,
    );
    const problems = await validateKernels(specs);
    for (const problem of problems) console.log(problem);
    count += specs.size;
    failures += problems.length;
  }
  console.log(`${count} kernels validated, ${failures} problems`);
  process.exit(failures === 0 ? 0 : 1);
}

async function measure(): Promise<void> {
  const gpu = await benchGpu();
  const plain = new Gpu(gpu.device, { ...gpu.info, tier: "f16" });
  gpu.poison = true;
  plain.poison = true;
  const clock = new Clock(gpu);
  const plainClock = new Clock(plain);
  const table: string[] = [];
  const best = new Map<string, number>();
  for (const headDim of headDims) {
    const started = performance.now();
    const ragged = batchOf(gpu, RAGGED, headDim, 200);
    const long = batchOf(gpu, LONG, headDim, 0);
    const variants = todo.filter((v) => v.headDim === headDim);
    const { specs, keys } = collect(variants, headDim);
    const failed = new Map<string, string>();
    await Promise.all(
      [...specs].map(([key, spec]) =>
        gpu.compile(new Map([[key, spec]])).catch((error: unknown) => failed.set(key, String(error).slice(0, 200))),
      ),
    );
    gpu.submit(); // poison comes before the other view of the device writes
    const compiled = performance.now();
    for (const batch of [ragged, long]) runReference(plain, batch);
    await plain.idle();
    console.log(
      `head_dim ${headDim}: ${specs.size} kernels compiled in ${((compiled - started) / 1e3).toFixed(1)} s, ` +
        `references after ${((performance.now() - compiled) / 1e3).toFixed(1)} s`,
    );
    for (const [i, { part, t }] of variants.entries()) {
      const problem = failed.get(keys[i]!);
      if (problem !== undefined) {
        console.log(`${part} ${headDim} ${nameOf(t)}: ${problem}`);
        continue;
      }
      for (const name of OUTPUTS[part]) {
        const { size } = ragged.got[name].buffer;
        gpu.write({ ...ragged.got[name], shape: [size], dtype: "u8" }, new Uint8Array(size).fill(0xff));
      }
      runVariant(gpu, part, ragged, t);
      const raggedError = await errorOf(gpu, part, ragged, 1);
      if (i === 0) await clock.time(() => runVariant(gpu, part, long, t)); // wakes the card
      const ms = await clock.time(() => runVariant(gpu, part, long, t));
      const longError = await errorOf(gpu, part, long, 13);
      const rate = (MATRICES[part] * 2 * headDim * long.pairs * HEADS) / ms / 1e9;
      const right = raggedError < 4e-3 && longError < 4e-3;
      const line =
        `${part.padEnd(8)} ${headDim}  ${nameOf(t).padEnd(62)} ${ms.toFixed(3).padStart(8)} ms ${rate.toFixed(1).padStart(6)} TFLOP/s  ` +
        `error ${raggedError.toExponential(1)} ragged, ${longError.toExponential(1)} long${right ? "" : "  WRONG"}`;
      console.log(line);
      table.push(line);
      const name = `${part} ${headDim}`;
      if (right) best.set(name, Math.min(best.get(name) ?? Infinity, ms));
    }
    const flops = 2 * headDim * long.pairs * HEADS;
    const delta = await plainClock.time(() =>
      attentionDelta(plain, long.inputs.dOut, long.want.out, long.delta, headDim),
    );
    const backward = delta + (best.get(`queries ${headDim}`) ?? NaN) + (best.get(`keys ${headDim}`) ?? NaN);
    table.push(
      `head_dim ${headDim}, best: forward ${((2 * flops) / (best.get(`forward ${headDim}`) ?? NaN) / 1e9).toFixed(1)} TFLOP/s, ` +
        `backward ${((5 * flops) / backward / 1e9).toFixed(1)} (five products counted, seven done; delta ${delta.toFixed(3)} ms)`,
    );
    for (const batch of [ragged, long]) {
      for (const tensor of [...Object.values(batch.inputs), ...Object.values(batch.got), ...Object.values(batch.want)])
        gpu.free(tensor);
      gpu.free(batch.delta);
      gpu.free(batch.options.segments);
    }
  }
  console.log(`\n${LONG.length} samples of ${LONG[0]}, H ${HEADS}, K ${KV_HEADS}; the causal half counted`);
  for (const line of table) console.log(line);
  process.exit(0);
}

await (check ? validate() : measure());
