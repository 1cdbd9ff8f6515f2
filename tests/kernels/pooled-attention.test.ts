import { describe, setDefaultTimeout, test } from "bun:test";
import { pooledAttention } from "../../kernels/pooled-attention/index.ts";
import {
  pooledAttentionBackwardReference,
  pooledAttentionReference,
} from "../../kernels/pooled-attention/reference.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { differences, dot, runOp } from "../support/op.ts";

setDefaultTimeout(180_000);

interface Case {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly softcap?: number;
  readonly window?: number;
}

const shapes: readonly Case[] = [
  { lengths: [1], heads: 1, kvHeads: 1, headDim: 32 },
  { lengths: [17, 1, 40], heads: 4, kvHeads: 2, headDim: 32, softcap: 50 },
  { lengths: [1, 1, 1, 33, 64, 5], heads: 4, kvHeads: 2, headDim: 32, softcap: 2, window: 16 },
  { lengths: [700, 257], heads: 4, kvHeads: 1, headDim: 32, window: 300 },
  { lengths: [45, 60], heads: 6, kvHeads: 2, headDim: 36, softcap: 5, window: 1 },
  { lengths: [31, 65], heads: 3, kvHeads: 3, headDim: 256, softcap: 50 },
];

function optionsOf({ lengths, heads, kvHeads, headDim, softcap = 0, window = 0 }: Case) {
  let start = 0;
  const segments: number[] = [];
  const lastTokens = lengths.map((length) => {
    for (let i = 0; i < length; i++) segments.push(start, start + length);
    start += length;
    return start - 1;
  });
  return { heads, kvHeads, headDim, softcap, window, scale: headDim ** -0.5, segments, lastTokens };
}

const titleOf = (c: Case): string =>
  `samples of ${c.lengths.join(", ")}; H ${c.heads}, K ${c.kvHeads}, D ${c.headDim}, softcap ${c.softcap ?? 0}, window ${c.window ?? 0}`;

test("the reference's gradients are its differences", () => {
  const c: Case = { lengths: [3, 1, 5], heads: 2, kvHeads: 1, headDim: 4, softcap: 2, window: 4 };
  const options = optionsOf(c);
  const [q, k, v, dOut] = [3 * 8, 9 * 4, 9 * 4, 3 * 8].map((n, i) => normals(n, i + 1)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const { dQ, dK, dV } = pooledAttentionBackwardReference(q, k, v, dOut, options);
  const loss = (a: ArrayLike<number>, b: ArrayLike<number>, d: ArrayLike<number>): number =>
    dot(pooledAttentionReference(a, b, d, options), dOut);
  expectClose(
    dQ,
    differences((x) => loss(x, k, v), q),
    { atol: 1e-7 },
  );
  expectClose(
    dK,
    differences((x) => loss(q, x, v), k),
    { atol: 1e-7 },
  );
  expectClose(
    dV,
    differences((x) => loss(q, k, x), v),
    { atol: 1e-7 },
  );
});

/** Relative L2 errors allowed: f32 sums; in f16 the result's own rounding. */
const limits = { f32: { out: 3e-6, gradient: 1e-5 }, f16: { out: 2 ** -11, gradient: 2 ** -10 } } as const;

for (const tier of tiers) {
  describe(`pooled attention, tier ${tier} (seed ${runSeed})`, () => {
    for (const c of shapes) {
      if (c.headDim % 32 !== 0 && tier !== "f32") continue;
      test(titleOf(c), async () => {
        const gpu = await gpuOf(tier);
        const { segments, lastTokens, ...shared } = optionsOf(c);
        const [rows, samples] = [segments.length / 2, lastTokens.length];
        const { heads, kvHeads, headDim } = shared;
        const draw = (n: number, seed: number): Float32Array<ArrayBuffer> =>
          rounded(normals(n, runSeed + seed), gpu.computeDtype);
        const q = draw(samples * heads * headDim, 1);
        const k = draw(rows * kvHeads * headDim, 2);
        const v = draw(rows * kvHeads * headDim, 3);
        const dOut = draw(q.length, 4);
        const options = {
          ...shared,
          segments: tensorOf(gpu, segments, [rows, 2], "u32"),
          lastTokens: tensorOf(gpu, lastTokens, [samples], "u32"),
        } as const;
        const inputs = [
          tensorOf(gpu, q, [samples, heads * headDim], gpu.computeDtype),
          tensorOf(gpu, k, [rows, kvHeads * headDim], gpu.computeDtype),
          tensorOf(gpu, v, [rows, kvHeads * headDim], gpu.computeDtype),
        ];
        const got = await runOp(gpu, inputs, (tape, a, b, d) => pooledAttention(tape, a, b, d, options), dOut);
        const reference = { ...shared, segments, lastTokens };
        const want = pooledAttentionBackwardReference(q, k, v, dOut, reference);
        const limit = limits[gpu.computeDtype];
        expectNear(got.output, pooledAttentionReference(q, k, v, reference), limit.out, "out");
        expectNear(got.gradients[2]!, want.dV, limit.gradient, "dV");
        // A query that sees one key has no gradient by q and k but rounding.
        if (c.window === 1 || c.lengths.every((n) => n === 1)) {
          expectClose(got.gradients[0]!, want.dQ, { atol: 3e-2 }, "dQ");
          expectClose(got.gradients[1]!, want.dK, { atol: 3e-2 }, "dK");
        } else {
          expectNear(got.gradients[0]!, want.dQ, limit.gradient, "dQ");
          expectNear(got.gradients[1]!, want.dK, limit.gradient, "dK");
        }
        gpu.free(options.segments);
        gpu.free(options.lastTokens);
      });
    }
  });
}
