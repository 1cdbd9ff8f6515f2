/** What peft's recorded runs do not show of the adapters: their start, DoRA's norms and its dropout. */
import { describe, expect, test } from "bun:test";
import { accumulate } from "../../core/compute/accumulate.ts";
import type { Batch } from "../../core/compute/batch.ts";
import type { FrozenWeight } from "../../core/compute/linear.ts";
import { ParameterSet } from "../../core/compute/parameters.ts";
import { Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { dequantize4bit, nf4CodeBook, type Packed4bit, quantize4bit } from "../../core/formats/nf4.ts";
import { dropout } from "../../kernels/dropout/index.ts";
import { loraLinears } from "../../kernels/lora-linear/index.ts";
import { freeWeight, upload4bit } from "../../kernels/nf4/index.ts";
import { doraForward, type DoraBranch } from "../../plugins/dora/forward.ts";
import { weightNorm } from "../../plugins/dora/weight-norm.ts";
import { dora, gemma2, ia3, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { readLogits } from "../../runtime/training/forward.ts";
import { expectClose, relativeL2 } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { pluginSession, samplesFrom } from "../support/session.ts";

/** A quantized weight on the GPU, and what it stands for. */
function nf4(gpu: Gpu, out: number, inputs: number): { weight: FrozenWeight; values: Float32Array } {
  const { codes, absmax } = quantize4bit(normals(out * inputs, runSeed, 0.3));
  const raw: Packed4bit = { shape: [out, inputs], dtype: "float32", codes, codeBook: nf4CodeBook, absmax };
  return { weight: upload4bit(gpu, raw, "w"), values: dequantize4bit(raw) };
}

const keys = ["a", "b", "magnitude"] as const;

function branchOf(gpu: Gpu, out: number, inputs: number, rank: number, p: number) {
  const values = {
    a: normals(rank * inputs, runSeed + 1, 0.4),
    b: normals(out * rank, runSeed + 2, 0.4),
    magnitude: normals(out, runSeed + 3).map((v) => 1 + Math.abs(v)),
  };
  const shapes = { a: [rank, inputs], b: [out, rank], magnitude: [out] };
  const set = new ParameterSet(
    gpu,
    keys.map((name) => ({ name, shape: shapes[name], initial: () => values[name] })),
  );
  const [a, b, magnitude] = keys.map((name) => set.get(name));
  const branch: DoraBranch = { a: a!, b: b!, magnitude: magnitude!, scale: 0.75, dropout: p, site: 5 };
  const free = (): void => {
    for (const { value, grad } of set.slabs) for (const tensor of [value, grad]) gpu.free(tensor);
  };
  return { values, set, branch, free };
}

/** W + scale B A, row-major, in f64. */
function merged(
  w: ArrayLike<number>,
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  scale: number,
  inputs: number,
): Float64Array {
  const rank = a.length / inputs;
  return Float64Array.from(w, (value, i) => {
    const [row, column] = [Math.floor(i / inputs), i % inputs];
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += b[row * rank + k]! * a[k * inputs + column]!;
    return value + scale * sum;
  });
}

function rowNorms(v: Float64Array, inputs: number): Float64Array {
  return Float64Array.from({ length: v.length / inputs }, (_, row) =>
    Math.hypot(...v.subarray(row * inputs, (row + 1) * inputs)),
  );
}

/** x [N,in] times v [out,in], transposed. */
function product(x: ArrayLike<number>, v: ArrayLike<number>, inputs: number): Float64Array {
  const [rows, out] = [x.length / inputs, v.length / inputs];
  return Float64Array.from({ length: rows * out }, (_, i) => {
    const [n, o] = [Math.floor(i / out), i % out];
    let sum = 0;
    for (let c = 0; c < inputs; c++) sum += x[n * inputs + c]! * v[o * inputs + c]!;
    return sum;
  });
}

for (const tier of tiers) {
  describe(`DoRA, tier ${tier} (seed ${runSeed})`, () => {
    for (const [out, inputs, rank] of [
      [1, 8, 1],
      [17, 24, 3],
      [6, 2304, 4],
    ] as const) {
      test(`norms of ${out} rows of ${inputs}, rank ${rank}`, async () => {
        const gpu = await gpuOf(tier);
        const { weight, values: w } = nf4(gpu, out, inputs);
        const { values, branch, free } = branchOf(gpu, out, inputs, rank, 0);
        const norms = gpu.alloc([out], "f32", "norms", "data");
        weightNorm(gpu, weight, branch, norms);
        const want = rowNorms(merged(w, values.a, values.b, branch.scale, inputs), inputs);
        expectClose(await gpu.readFloats(norms), want, { rtol: 2e-6 });
        gpu.free(norms);
        freeWeight(gpu, weight);
        free();
      });
    }

    for (const p of [0, 0.3]) {
      test(`output and gradients against f64, dropout ${p}`, async () => {
        const gpu = await gpuOf(tier);
        const [rows, out, inputs, rank] = [9, 12, 16, 3];
        const { weight: plain, values: w } = nf4(gpu, out, inputs);
        const bias = normals(out, runSeed + 9);
        const weight = { ...plain, bias: tensorOf(gpu, bias, [out], "f32") };
        const { values, set, branch, free } = branchOf(gpu, out, inputs, rank, p);
        const x = rounded(normals(rows * inputs, runSeed + 4), gpu.computeDtype);
        const dY = rounded(normals(rows * out, runSeed + 5), gpu.computeDtype);
        const rowKeys = tensorOf(
          gpu,
          Uint32Array.from({ length: rows }, (_, i) => 77 * i + 1),
          [rows],
          "u32",
        );
        const settings = { training: true, seed: 3 };

        // The mask, from the generator that has tests of its own.
        const ones = tensorOf(gpu, new Float32Array(rows * inputs).fill(1), [rows, inputs], "f32");
        const silent = new Tape(gpu, { recording: false });
        const mask = await gpu.readFloats(
          dropout(silent, ones, { rowKeys, site: branch.site, seed: settings.seed, p }),
        );
        silent.close();
        gpu.free(ones);

        const forward = doraForward(weight, branch);
        const run = await runOp(
          gpu,
          [tensorOf(gpu, x, [rows, inputs], gpu.computeDtype)],
          (tape, input) => {
            const base = (t: typeof input) => {
              const y = loraLinears(tape, t, [{ weight }], { rowKeys, ...settings })[0]!;
              const biased = tensorOf(
                gpu,
                Float32Array.from({ length: rows * out }, (_, i) => bias[i % out]!),
                [rows, out],
                gpu.computeDtype,
              );
              accumulate(gpu, y, biased);
              gpu.free(biased);
              return y;
            };
            return forward(tape, input, base, { rowKeys } as Batch, settings);
          },
          dY,
        );

        const norms = rowNorms(merged(w, values.a, values.b, branch.scale, inputs), inputs);
        const reference = (at: Record<"x" | (typeof keys)[number], ArrayLike<number>>): Float64Array => {
          const dropped = Float64Array.from(at.x, (v, i) => v * mask[i]!);
          const whole = product(at.x, w, inputs);
          const masked = product(dropped, w, inputs);
          const adapted = product(dropped, merged(w, at.a, at.b, branch.scale, inputs), inputs);
          // peft: result + (c - 1) * base_result + c * scale * lora_result
          return whole.map((v, i) => {
            const c = at.magnitude[i % out]! / norms[i % out]!;
            return v + bias[i % out]! - masked[i]! + c * adapted[i]!;
          });
        };
        const at = { x, ...values };
        const limit = gpu.computeDtype === "f16" ? 2e-3 : 1e-5;
        expect(relativeL2(run.output, reference(at))).toBeLessThan(limit);
        const gradients = await set.readGradients();
        for (const key of ["x", ...keys] as const) {
          const want = differences((v) => dot(reference({ ...at, [key]: v }), dY), at[key]);
          const got = key === "x" ? run.gradients[0]! : gradients.get(key)!;
          expect([key, relativeL2(got, want) < limit]).toEqual([key, true]);
        }
        freeWeight(gpu, weight);
        gpu.free(rowKeys);
        free();
      });
    }
  });
}

test.skipIf(tiers.length === 0)("a fresh adapter changes nothing", async () => {
  const samples = samplesFrom([
    { input_ids: [2, 17, 900, 1], label: 0 },
    { input_ids: [2, 5, 1], label: 1 },
  ]);
  const logits: Float32Array[] = [];
  for (const adapter of [lora(), ia3(), dora({ targetModules: "all-linear" })]) {
    using session = await pluginSession(tiers[0]!, gemma2({ checkpoint: tinyCheckpoint }).create(fileHost), adapter);
    logits.push(await readLogits(session, samples));
  }
  expect(logits[0]!.some((value) => Math.abs(value) > 1e-3)).toBe(true);
  for (const other of logits.slice(1)) expectClose(other, logits[0]!, { atol: 1e-5 });
});
