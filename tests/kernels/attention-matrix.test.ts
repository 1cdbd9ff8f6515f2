import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { attentionDelta } from "../../kernels/attention/index.ts";
import { MATRIX_TUNING, type MatrixTuning, planOf } from "../../kernels/attention/matrix-plan.ts";
import { spilledBlocks } from "../../kernels/attention/matrix-spill.ts";
import {
  type MatrixTunings,
  spilledHeads,
  runMatrixBackward,
  runMatrixForward,
} from "../../kernels/attention/matrix.ts";
import type { AttentionOptions } from "../../kernels/attention/options.ts";
import { attentionBackwardReference, attentionReference } from "../../kernels/attention/reference.ts";
import { expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { emulatedMatrixGpu } from "../support/matrix-emulation.ts";

setDefaultTimeout(600_000);

// Subgroup matrices are emulated where QLORA_EMULATE_MATRIX is set: right, but minutes of compiling.
const emulate = process.env["QLORA_EMULATE_MATRIX"] !== undefined;

interface Case {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly softcap: number;
  readonly window: number;
}

/** A tile is 16 to 128 rows: samples shorter and longer, ends that fill no tile, windows within and across tiles. */
const cases: readonly Case[] = [
  { lengths: [16], heads: 2, kvHeads: 1, softcap: 50, window: 0 },
  { lengths: [17, 1, 40], heads: 4, kvHeads: 2, softcap: 50, window: 0 },
  { lengths: [1, 1, 70, 3, 33], heads: 4, kvHeads: 2, softcap: 50, window: 20 },
  { lengths: [150], heads: 4, kvHeads: 2, softcap: 2, window: 0 },
];

function segmentsOf(lengths: readonly number[]): number[] {
  let start = 0;
  return lengths.flatMap((length) => {
    const segment = [start, start + length];
    start += length;
    return Array.from({ length }, () => segment).flat();
  });
}

async function check(gpu: Gpu, c: Case, headDim: number, tunings: MatrixTunings, spread = 1): Promise<void> {
  const { heads, kvHeads, softcap, window } = c;
  const rows = c.lengths.reduce((a, b) => a + b, 0);
  const draw = (columns: number, seed: number, factor = 1): Float32Array<ArrayBuffer> =>
    rounded(normals(rows * columns, runSeed + seed, factor), "f16");
  const q = draw(heads * headDim, 1, spread);
  const k = draw(kvHeads * headDim, 2);
  const v = draw(kvHeads * headDim, 3);
  const dOut = draw(heads * headDim, 4);
  const made: Tensor[] = [];
  const keep = (tensor: Tensor): Tensor => {
    made.push(tensor);
    return tensor;
  };
  const up = (x: Float32Array<ArrayBuffer>, n: number, label: string): Tensor =>
    keep(tensorOf(gpu, x, [rows, n * headDim], "f16", label));
  const fresh = (columns: number, dtype: "f16" | "f32", label: string): Tensor =>
    keep(gpu.alloc([rows, columns], dtype, label));
  const segmentNumbers = segmentsOf(c.lengths);
  const options: AttentionOptions = {
    heads,
    kvHeads,
    headDim,
    softcap,
    window,
    scale: headDim ** -0.5,
    segments: keep(tensorOf(gpu, segmentNumbers, [rows, 2], "u32", "segments")),
    maxSeqlen: Math.max(...c.lengths),
  };
  const saved = {
    q: up(q, heads, "q"),
    k: up(k, kvHeads, "k"),
    v: up(v, kvHeads, "v"),
    dOut: up(dOut, heads, "dOut"),
    out: fresh(heads * headDim, "f16", "out"),
    lse: fresh(heads, "f32", "lse"),
  };
  const delta = fresh(heads, "f32", "delta");
  const gradients = {
    queries: fresh(heads * headDim, "f16", "dQ"),
    keys: fresh(kvHeads * headDim, "f16", "dK"),
    values: fresh(kvHeads * headDim, "f16", "dV"),
  };
  const alone = {
    keys: fresh(kvHeads * headDim, "f16", "dK alone"),
    values: fresh(kvHeads * headDim, "f16", "dV alone"),
  };
  runMatrixForward(gpu, saved, options, tunings);
  attentionDelta(gpu, saved.dOut, saved.out, delta, headDim);
  runMatrixBackward(gpu, saved, delta, gradients, options, tunings);

  const reference = { ...options, segments: segmentNumbers };
  const want = { ...attentionReference(q, k, v, reference), ...attentionBackwardReference(q, k, v, dOut, reference) };
  // Weights and their gradients are f16 operands of the second products, so their rounding (2^-12 on average) comes
  // on top of the results' own.
  expectNear(await gpu.readFloats(saved.out), want.out, 2 ** -10, "out");
  expectNear(await gpu.readFloats(saved.lse), want.lse, 1e-5, "lse");
  expectNear(await gpu.readFloats(gradients.values), want.dV, 2 ** -9, "dV");
  expectNear(await gpu.readFloats(gradients.queries), want.dQ, 2 ** -8, "dQ");
  expectNear(await gpu.readFloats(gradients.keys), want.dK, 2 ** -8, "dK");
  // The scores' gradients went through memory, all heads at a time; a kv head at a time they are the same, and so, but for
  // the order of its sums, is the queries' gradient where they are recomputed.
  expect([...gpu.kernelSpecs.keys()].some((key) => key.includes("spilled-queries"))).toBe(true);
  const tileRows = planOf("keys", options, tunings.keys ?? MATRIX_TUNING.keys[headDim as 128 | 256]).tileRows;
  const perHead = Math.ceil(rows / tileRows) * spilledBlocks(tileRows, options.maxSeqlen, window) * tileRows * 16 * 2;
  for (const bytes of [(perHead * heads) / kvHeads, 0]) {
    const again = {
      queries: fresh(heads * headDim, "f16", "dQ again"),
      keys: fresh(kvHeads * headDim, "f16", "dK again"),
      values: fresh(kvHeads * headDim, "f16", "dV again"),
    };
    runMatrixBackward(gpu, saved, delta, again, options, { ...tunings, spillRoom: { bytes, workgroups: 0 } });
    expect(await gpu.readBytes(again.keys)).toEqual(await gpu.readBytes(gradients.keys));
    expect(await gpu.readBytes(again.values)).toEqual(await gpu.readBytes(gradients.values));
    if (bytes > 0) expect(await gpu.readBytes(again.queries)).toEqual(await gpu.readBytes(gradients.queries));
    else expectNear(await gpu.readFloats(again.queries), want.dQ, 2 ** -8, "dQ, scores recomputed");
  }
  if (!emulate) {
    // Each of the two alone is the same sum.
    runMatrixBackward(gpu, saved, delta, { keys: alone.keys }, options, tunings);
    runMatrixBackward(gpu, saved, delta, { values: alone.values }, options, tunings);
    expect(await gpu.readBytes(alone.keys)).toEqual(await gpu.readBytes(gradients.keys));
    expect(await gpu.readBytes(alone.values)).toEqual(await gpu.readBytes(gradients.values));
  }
  for (const tensor of made) gpu.free(tensor);
}

if (tiers.includes("matrix")) {
  describe(`attention, tier matrix (seed ${runSeed})`, () => {
    for (const headDim of [128, 256]) {
      for (const c of cases) {
        test(`samples of ${c.lengths.join(", ")}, head_dim ${headDim}, softcap ${c.softcap}, window ${c.window}`, async () =>
          check(await gpuOf("matrix"), c, headDim, {}));
      }
      test(`growing scores move the reference maximum, head_dim ${headDim}`, async () =>
        check(await gpuOf("matrix"), { ...cases[3]!, softcap: 0 }, headDim, {}, 6));
    }
  });
}

if (emulate && tiers.includes("f16")) {
  const tuning: MatrixTuning = { warps: 4, split: 2, rowBlocks: 1, columns: 16, packed: 2, prefetch: true };
  const tunings: Readonly<Record<string, MatrixTunings>> = {
    "two subgroups to a row": { forward: tuning, queries: tuning, keys: tuning },
    "two subgroups to a row, two blocks": {
      forward: { ...tuning, warps: 2, rowBlocks: 2, columns: 32 },
      queries: { ...tuning, warps: 2, rowBlocks: 2 },
      keys: { ...tuning, warps: 2, rowBlocks: 2 },
    },
    "one subgroup to a row, two blocks, no prefetch": {
      forward: { warps: 2, split: 1, rowBlocks: 2, columns: 32, packed: 2 },
      queries: { warps: 2, split: 1, rowBlocks: 1, columns: 16, packed: 1, prefetch: false },
      keys: { warps: 2, split: 1, rowBlocks: 1, columns: 16, packed: 1, prefetch: false },
    },
  };
  describe(`attention, emulated subgroup matrices (seed ${runSeed})`, () => {
    for (const [name, chosen] of Object.entries(tunings)) {
      const headDim = name.startsWith("two") ? 64 : 32;
      const open = async (): Promise<Gpu> => emulatedMatrixGpu(await gpuOf("f16"), { m: 16, n: 16, k: 16, lanes: 32 });
      test(name, async () => {
        const gpu = await open();
        for (const c of cases) await check(gpu, c, headDim, chosen);
        await check(gpu, { ...cases[3]!, softcap: 50 }, headDim, chosen, 20);
      });
    }
  });
}

describe("attention plans", () => {
  test("every tuning fits 48 KiB and divides its head size", () => {
    for (const part of ["forward", "queries", "keys"] as const) {
      for (const headDim of [128, 256] as const) {
        for (const [heads, kvHeads] of [
          [16, 8],
          [8, 4],
          [32, 16],
        ] as const) {
          const plan = planOf(part, { heads, kvHeads, headDim }, MATRIX_TUNING[part][headDim]);
          expect(plan.workgroupBytes).toBeLessThanOrEqual(48 * 1024);
          expect(plan.tileStride % 2).toBe(1);
          // 16 staged rows of an odd number of vectors lie in the subgroup's part of the scores.
          expect(16 * (2 * plan.stagedDepth + 1)).toBeLessThanOrEqual(plan.teamRows * plan.scoreStride);
        }
      }
    }
  });

  test("kv heads take turns of the same size in the room for their scores' gradients", () => {
    const device = (bindings: number) => ({
      device: { limits: { maxStorageBuffersPerShaderStage: bindings, maxStorageBufferBindingSize: 2 ** 31 } },
    });
    const shape = { heads: 16, kvHeads: 8, headDim: 256 };
    const turns = (bindings: number, tiles: number, bytes: number): number =>
      spilledHeads(device(bindings) as unknown as Gpu, shape, tiles, 100, { bytes, workgroups: 384 });
    expect(turns(10, 128, 1600)).toBe(8);
    expect(turns(10, 1, 1600)).toBe(8); // one turn is never worse than recomputing
    expect(turns(10, 128, 1599)).toBe(4); // 7 fit: two turns of 4, not 7 and 1
    expect(turns(10, 128, 799)).toBe(3);
    expect(turns(10, 128, 599)).toBe(0); // turns of 2 are 256 workgroups
    expect(turns(10, 192, 599)).toBe(2);
    expect(turns(10, 1000, 199)).toBe(0);
    expect(turns(9, 128, 1600)).toBe(0);
  });

  test("a tuning that does not divide is refused", () => {
    const tuning: MatrixTuning = { warps: 4, split: 2, rowBlocks: 1, columns: 16, packed: 2, prefetch: true };
    expect(() => planOf("forward", { heads: 3, kvHeads: 1, headDim: 128 }, tuning)).toThrow("does not divide");
    expect(() => planOf("forward", { heads: 4, kvHeads: 2, headDim: 40 }, tuning)).toThrow("does not divide");
  });
});
