import { Gpu } from "../core/device/gpu.ts";
import { attentionDelta } from "../kernels/attention/index.ts";
import { type MatrixPart, type MatrixTuning, planOf } from "../kernels/attention/matrix-plan.ts";
import { validateKernels } from "../runtime/device/validate.ts";
import {
  batchOf,
  drawInputs,
  errorOf,
  freeBatch,
  HEADS,
  KV_HEADS,
  LONG,
  MATRICES,
  operations,
  OUTPUTS,
  poison,
  RAGGED,
  readOutputs,
  runReference,
  runVariant,
  TOLERANCE,
} from "./attention/batch.ts";
import { Clock } from "./gemm/clock.ts";
import { benchGpu, collectingGpu } from "./gemm/device.ts";

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
  const samples = { lengths: [20], window: 0 };
  const batch = batchOf(gpu, samples, headDim, drawInputs(samples, headDim));
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
    const ragged = batchOf(gpu, RAGGED, headDim, drawInputs(RAGGED, headDim));
    const long = batchOf(gpu, LONG, headDim, drawInputs(LONG, headDim));
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
    const wantRagged = await readOutputs(plain, ragged.want);
    const wantLong = await readOutputs(plain, long.want);
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
      poison(gpu, part, ragged);
      runVariant(gpu, part, ragged, t);
      const raggedError = errorOf(await readOutputs(gpu, ragged.got, OUTPUTS[part]), wantRagged, 1);
      if (i === 0) await clock.time(() => runVariant(gpu, part, long, t)); // wakes the card
      const ms = await clock.time(() => runVariant(gpu, part, long, t));
      const longError = errorOf(await readOutputs(gpu, long.got, OUTPUTS[part]), wantLong, 13);
      const rate = (MATRICES[part] * operations(LONG, headDim)) / ms / 1e9;
      const right = raggedError < TOLERANCE && longError < TOLERANCE;
      const line =
        `${part.padEnd(8)} ${headDim}  ${nameOf(t).padEnd(62)} ${ms.toFixed(3).padStart(8)} ms ${rate.toFixed(1).padStart(6)} TFLOP/s  ` +
        `error ${raggedError.toExponential(1)} ragged, ${longError.toExponential(1)} long${right ? "" : "  WRONG"}`;
      console.log(line);
      table.push(line);
      const name = `${part} ${headDim}`;
      if (right) best.set(name, Math.min(best.get(name) ?? Infinity, ms));
    }
    const flops = operations(LONG, headDim);
    const delta = await plainClock.time(() =>
      attentionDelta(plain, long.inputs.dOut, long.want.out, long.delta, headDim),
    );
    const backward = delta + (best.get(`queries ${headDim}`) ?? NaN) + (best.get(`keys ${headDim}`) ?? NaN);
    table.push(
      `head_dim ${headDim}, best: forward ${((2 * flops) / (best.get(`forward ${headDim}`) ?? NaN) / 1e9).toFixed(1)} TFLOP/s, ` +
        `backward ${((5 * flops) / backward / 1e9).toFixed(1)} (five products counted, seven done; delta ${delta.toFixed(3)} ms)`,
    );
    for (const batch of [ragged, long]) freeBatch(gpu, batch);
  }
  console.log(
    `\n${LONG.lengths.length} samples of ${LONG.lengths[0]}, H ${HEADS}, K ${KV_HEADS}; the causal half counted`,
  );
  for (const line of table) console.log(line);
  process.exit(0);
}

await (check ? validate() : measure());
