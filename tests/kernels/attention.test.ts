import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { attention } from "../../kernels/attention/index.ts";
import type { AttentionOptions } from "../../kernels/attention/options.ts";
import { attentionBackwardReference, attentionReference } from "../../kernels/attention/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";

interface Case {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale?: number;
  readonly softcap?: number;
  readonly window?: number;
}

// A head size is a pipeline of its own, and software drivers compile each for seconds: few sizes, many shapes.
setDefaultTimeout(180_000);

const shapes: readonly Case[] = [
  { lengths: [1], heads: 1, kvHeads: 1, headDim: 32 },
  { lengths: [17, 1, 40], heads: 4, kvHeads: 2, headDim: 32, softcap: 50 },
  { lengths: [1, 1, 1, 33, 64, 5], heads: 4, kvHeads: 2, headDim: 32, softcap: 2, window: 16 },
  { lengths: [257], heads: 4, kvHeads: 1, headDim: 32, window: 100 },
  { lengths: [130, 31], heads: 3, kvHeads: 3, headDim: 32, softcap: 50, window: 1 },
  { lengths: [45, 60], heads: 6, kvHeads: 2, headDim: 36, softcap: 5, window: 33 },
  { lengths: [1, 65], heads: 2, kvHeads: 1, headDim: 128, softcap: 50, window: 40 },
];

/** [2N] first row of each row's sample, row after its last. */
function segmentsOf(lengths: readonly number[]): number[] {
  let start = 0;
  return lengths.flatMap((length) => {
    const segment = [start, start + length];
    start += length;
    return Array.from({ length }, () => segment).flat();
  });
}

const titleOf = (c: Case): string =>
  `samples of ${c.lengths.join(", ")}; H ${c.heads}, K ${c.kvHeads}, D ${c.headDim}, softcap ${c.softcap ?? 0}, window ${c.window ?? 0}`;

function numbersOf(c: Case, half: "f16" | "f32", spread = 1) {
  const rows = c.lengths.reduce((a, b) => a + b, 0);
  const draw = (columns: number, seed: number, factor = 1): Float32Array<ArrayBuffer> =>
    rounded(normals(rows * columns, runSeed + seed, factor), half);
  return {
    rows,
    q: draw(c.heads * c.headDim, 1, spread),
    k: draw(c.kvHeads * c.headDim, 2),
    v: draw(c.kvHeads * c.headDim, 3),
    dOut: draw(c.heads * c.headDim, 4),
    reference: {
      heads: c.heads,
      kvHeads: c.kvHeads,
      headDim: c.headDim,
      scale: c.scale ?? c.headDim ** -0.5,
      softcap: c.softcap ?? 0,
      window: c.window ?? 0,
      segments: segmentsOf(c.lengths),
    },
  };
}

type Numbers = ReturnType<typeof numbersOf>;

/** Runs the op forward and backward; gradients of inputs not in `wanted` are not asked for. */
async function run(
  tier: (typeof tiers)[number],
  numbers: Numbers,
  wanted: readonly ("q" | "k" | "v")[] = ["q", "k", "v"],
) {
  const gpu = await gpuOf(tier);
  const { rows, reference } = numbers;
  const { heads, kvHeads, headDim } = reference;
  const inputs = {
    q: tensorOf(gpu, numbers.q, [rows, heads * headDim], gpu.computeDtype, "q"),
    k: tensorOf(gpu, numbers.k, [rows, kvHeads * headDim], gpu.computeDtype, "k"),
    v: tensorOf(gpu, numbers.v, [rows, kvHeads * headDim], gpu.computeDtype, "v"),
  };
  const segments = tensorOf(gpu, reference.segments, [rows, 2], "u32", "segments");
  const options: AttentionOptions = { ...reference, segments, maxSeqlen: rows };
  const tape = new Tape(gpu);
  for (const name of wanted) tape.requireGradient(inputs[name]);
  const out = attention(tape, inputs.q, inputs.k, inputs.v, options);
  const values = await gpu.readFloats(out);
  const seed = tape.alloc(out.shape, gpu.computeDtype, "dOut");
  gpu.write(seed, gpu.computeDtype === "f16" ? Float16Array.from(numbers.dOut) : numbers.dOut);
  const found = tape.backward(wanted.length > 0 ? [[out, seed]] : [], [inputs.q, inputs.k, inputs.v]);
  const read = async (t: Tensor | undefined): Promise<Float32Array | undefined> =>
    t === undefined ? undefined : gpu.readFloats(t);
  const [dQ, dK, dV] = [await read(found[0]), await read(found[1]), await read(found[2])];
  for (const t of found) if (t !== undefined) gpu.free(t);
  for (const t of [...Object.values(inputs), segments]) gpu.free(t);
  tape.close();
  return { out: values, dQ, dK, dV };
}

/**
 * Relative L2 errors allowed. f32: sums of a few hundred products. f16: the result's own rounding (2^-11 at worst, about
 * 2^-12.5 on average); gradients also carry the rounding of `out` through delta.
 */
const limits = { f32: { out: 3e-6, gradient: 1e-5 }, f16: { out: 2 ** -11, gradient: 2 ** -10 } } as const;

for (const tier of tiers) {
  describe(`attention, tier ${tier} (seed ${runSeed})`, () => {
    for (const c of shapes) {
      // Where a head does not fill whole vectors, only offsets differ: one tier's compile time is enough.
      if (c.headDim % 32 !== 0 && tier !== "f32") continue;
      test(titleOf(c), async () => {
        const { computeDtype: half } = await gpuOf(tier);
        const numbers = numbersOf(c, half);
        const { q, k, v, dOut, reference } = numbers;
        const got = await run(tier, numbers);
        const want = attentionBackwardReference(q, k, v, dOut, reference);
        expectNear(got.out, attentionReference(q, k, v, reference).out, limits[half].out, "out");
        expectNear(got.dV!, want.dV, limits[half].gradient, "dV");
        // A sample of one row, or a window of one, has no gradient by q and k but rounding.
        const single = c.window === 1 || c.lengths.every((n) => n === 1);
        if (single) {
          expectClose(got.dQ!, want.dQ, { atol: 3e-2 }, "dQ");
          expectClose(got.dK!, want.dK, { atol: 3e-2 }, "dK");
        } else {
          expectNear(got.dQ!, want.dQ, limits[half].gradient, "dQ");
          expectNear(got.dK!, want.dK, limits[half].gradient, "dK");
        }
      });
    }

    test("large scores saturate the cap without NaN", async () => {
      const { computeDtype: half } = await gpuOf(tier);
      const c: Case = { lengths: [40, 70], heads: 2, kvHeads: 1, headDim: 32, softcap: 50, scale: 1 };
      const numbers = numbersOf(c, half, 1000);
      const got = await run(tier, numbers);
      const want = attentionReference(numbers.q, numbers.k, numbers.v, numbers.reference);
      // The cap is flat there: scores of 50 differ by rounding alone, which the softmax passes on.
      expectNear(got.out, want.out, half === "f32" ? 3e-5 : 2 ** -10);
      for (const gradient of [got.dQ!, got.dK!, got.dV!]) expect(gradient.every(Number.isFinite)).toBe(true);
    });

    test("only the gradients that are needed are computed", async () => {
      const { computeDtype: half } = await gpuOf(tier);
      const numbers = numbersOf(shapes[1]!, half);
      const all = await run(tier, numbers);
      const some = await run(tier, numbers, ["v"]);
      expect([some.dQ, some.dK]).toEqual([undefined, undefined]);
      expect(some.dV).toEqual(all.dV);
      expect((await run(tier, numbers, [])).dV).toBeUndefined();
    });

    test("running twice gives the same bits", async () => {
      const { computeDtype: half } = await gpuOf(tier);
      const numbers = numbersOf(shapes[2]!, half);
      expect(await run(tier, numbers)).toEqual(await run(tier, numbers));
    });

    test("a packed batch gives each sample's own rows", async () => {
      const { computeDtype: half } = await gpuOf(tier);
      const c: Case = { lengths: [50, 1, 33, 64, 7, 100], heads: 4, kvHeads: 2, headDim: 32, softcap: 50, window: 48 };
      const packed = numbersOf(c, half);
      const got = await run(tier, packed);
      let start = 0;
      for (const length of c.lengths) {
        const cut = (x: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> => {
          const columns = x.length / packed.rows;
          return x.slice(start * columns, (start + length) * columns);
        };
        const alone = await run(tier, {
          rows: length,
          q: cut(packed.q),
          k: cut(packed.k),
          v: cut(packed.v),
          dOut: cut(packed.dOut),
          reference: { ...packed.reference, segments: segmentsOf([length]) },
        });
        // Tiles fall differently, so sums round differently; f16 results may then differ by one step.
        const tolerance = half === "f32" ? { atol: 1e-6, rtol: 1e-6 } : { atol: 2 ** -12, rtol: 2 ** -10 };
        expectClose(cut(got.out), alone.out, tolerance, `out of the sample at ${start}`);
        const loose = half === "f32" ? { atol: 5e-6, rtol: 1e-6 } : { atol: 2 ** -10, rtol: 2 ** -10 };
        for (const name of ["dQ", "dK", "dV"] as const) {
          expectClose(
            cut(got[name] as Float32Array<ArrayBuffer>),
            alone[name]!,
            loose,
            `${name} of the sample at ${start}`,
          );
        }
        start += length;
      }
    });

    test("shapes that do not fit are refused", async () => {
      const { computeDtype: half } = await gpuOf(tier);
      const numbers = numbersOf(shapes[1]!, half);
      const tape = new Tape(await gpuOf(tier));
      const t = tensorOf(tape.gpu, numbers.k, [numbers.rows, 64], half);
      const segments = tensorOf(tape.gpu, numbers.reference.segments, [numbers.rows, 2], "u32");
      const options: AttentionOptions = { ...numbers.reference, segments, maxSeqlen: 1 };
      expect(() => attention(tape, t, t, t, options)).toThrow("expected [58,128]");
      expect(() => attention(tape, t, t, t, { ...options, headDim: 260 })).toThrow("head_dim 260");
      expect(() => attention(tape, t, t, t, { ...options, kvHeads: 3 })).toThrow("kv heads");
      for (const tensor of [t, segments]) tape.gpu.free(tensor);
      tape.close();
    });
  });
}

describe("attention reference", () => {
  test("backward agrees with finite differences of forward", () => {
    for (const c of [
      shapes[2]!,
      { ...shapes[1]!, lengths: [5, 9], headDim: 8 },
      { ...shapes[4]!, lengths: [6, 3], window: 2 },
    ]) {
      const { q, k, v, dOut, reference } = numbersOf({ ...c, lengths: c.lengths.map((n) => Math.min(n, 20)) }, "f32");
      const inputs = { q: Float64Array.from(q), k: Float64Array.from(k), v: Float64Array.from(v) };
      const loss = (): number => {
        const { out } = attentionReference(inputs.q, inputs.k, inputs.v, reference);
        return out.reduce((sum, x, i) => sum + x * dOut[i]!, 0);
      };
      const gradients = attentionBackwardReference(q, k, v, dOut, reference);
      for (const [name, gradient] of [
        ["q", gradients.dQ],
        ["k", gradients.dK],
        ["v", gradients.dV],
      ] as const) {
        for (let n = 0; n < 12; n++) {
          const i = (n * 7919 + runSeed) % gradient.length;
          const before = inputs[name][i]!;
          const step = 1e-4;
          inputs[name][i] = before + step;
          const above = loss();
          inputs[name][i] = before - step;
          const difference = (above - loss()) / (2 * step);
          inputs[name][i] = before;
          expectClose([gradient[i]!], [difference], { rtol: 1e-5, atol: 1e-6 }, `d${name}[${i}]`);
        }
      }
    }
  });

  test("two keys by hand", () => {
    // One head of 4, q = (1,0,0,0), k0 = (1,…), k1 = (0,…), scale 1, no cap: weights e/(e+1) and 1/(e+1).
    const q = [9, 9, 9, 9, 1, 0, 0, 0];
    const k = [1, 5, 5, 5, 0, 5, 5, 5];
    const v = [1, 2, 3, 4, -1, 0, 1, 2];
    const options = { heads: 1, kvHeads: 1, headDim: 4, scale: 1, softcap: 0, window: 0, segments: [0, 2, 0, 2] };
    const { out, lse } = attentionReference(q, k, v, options);
    const a = Math.E / (Math.E + 1);
    expectClose(out, [1, 2, 3, 4, a - (1 - a), 2 * a, 3 * a + 1 - a, 4 * a + 2 * (1 - a)], { atol: 1e-12 });
    expectClose([lse[1]!], [Math.log(Math.E + 1)], { atol: 1e-12 });
    const windowed = attentionReference(q, k, v, { ...options, window: 1 });
    expectClose(windowed.out, v, { atol: 1e-12 });
  });
});
