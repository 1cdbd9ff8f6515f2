import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import { metaGpu, NVIDIA } from "../../core/device/meta.ts";
import { createDynamicMap } from "../../core/formats/dynamic-map.ts";
import { dequantize4bit, nf4CodeBook, type Packed4bit } from "../../core/formats/nf4.ts";
import { dropoutMask } from "../../kernels/dropout/reference.ts";
import {
  castHalf,
  dequantizeRows,
  dequantizeTransposed,
  gemm,
  gemmForward,
  gemmInputGradient,
  gemmRefusal,
  gemmSupports,
  imageIndex,
  leftImageIndex,
  operandLayout,
  packLeft,
  packWherePaid,
  loraDown,
  loraGradientA,
  loraGradientB,
  loraMaskedGradient,
  loraRankGradient,
  type MatrixUnit,
  paddedRank,
  planTiles,
  type TilePlan,
  type Tiling,
  TUNING,
} from "../../kernels/matmul-matrix/index.ts";
import { gemmReference, times, transposed } from "../../kernels/matmul-matrix/reference.ts";
import { maskedRun, thinPlan, tokenSumPlan } from "../../kernels/matmul-matrix/skinny-plan.ts";
import { chooseTiling, matrixUnit } from "../../kernels/matmul-matrix/tiling.ts";
import { upload4bit } from "../../kernels/nf4/index.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, random, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";
import { emulatedMatrixGpu } from "../support/matrix-emulation.ts";

// Subgroup matrices are emulated where QLORA_EMULATE_MATRIX is set (m,n,k or 1): right, but a minute of compiling.
const emulation = process.env["QLORA_EMULATE_MATRIX"];
const [m = 16, n = 16, k = 16] = emulation === undefined || emulation === "1" ? [] : emulation.split(",").map(Number);
const emulatedUnit: MatrixUnit = { m, n, k, lanes: 32 };
const devices: [name: string, open: () => Promise<Gpu>][] = [];
if (tiers.includes("matrix")) devices.push(["tier matrix", () => gpuOf("matrix")]);
if (emulation !== undefined && tiers.includes("f16")) {
  let emulated: Promise<Gpu> | undefined;
  devices.push([
    `emulated ${m}x${n}x${k}`,
    () => (emulated ??= gpuOf("f16").then((gpu) => emulatedMatrixGpu(gpu, emulatedUnit))),
  ]);
}

// Emulation compiles quickest where a subgroup holds few matrices.
const tiny: Tiling = { name: "tiny", rows: 32, columns: 64, subgroupRows: 16, subgroupColumns: 32, efficiency: 1 };

// f16 rounding of the result is 2^-11 / sqrt(3) relative to each element; f32 sums add little.
const HALF = 4e-4;
const half = (size: number, seed: number, scale = 1): Float32Array<ArrayBuffer> =>
  rounded(normals(size, runSeed + seed, scale), "f16");
const rowKeys = (rows: number): Uint32Array<ArrayBuffer> => {
  const next = random(runSeed);
  return Uint32Array.from({ length: rows }, () => Math.floor(next() * 2 ** 32));
};

/** B [depth,columns] in tiles of 256 columns, as `image.ts` says. */
function imageOf(b: ArrayLike<number>, depth: number, columns: number): Float32Array<ArrayBuffer> {
  const image = new Float32Array(depth * columns);
  for (let k = 0; k < depth; k++)
    for (let column = 0; column < columns; column++) image[imageIndex(k, column, depth)] = b[k * columns + column]!;
  return image;
}

// The smallest of `relay`'s kind, for emulation and for odd parts of an image.
const tinyRelay: Tiling = { ...tiny, name: "tiny relay", relay: true };
const relays = TUNING.tilings.filter(({ relay }) => relay);

for (const [name, open] of devices) {
  const real = name === "tier matrix";
  describe(`gemm, ${name} (seed ${runSeed})`, () => {
    for (const [rows, depth, columns] of real
      ? ([
          [1, 64, 64],
          [70, 128, 64],
          [257, 320, 128],
          [130, 256, 512],
          [1900, 64, 2304],
        ] as const)
      : ([[70, 320, 64]] as const)) {
      for (const tiling of TUNING.tilings.filter(
        (t) => !t.relay && columns % t.columns === 0 && (real || t.name === "small"),
      )) {
        for (const parts of [1, 3]) {
          test(`${rows} x ${depth} x ${columns}, ${tiling.name}, ${parts === 1 ? "whole" : "in 3 parts"}`, async () => {
            const gpu = await open();
            const [a, b] = [half(rows * depth, 1), half(depth * columns, 2)];
            const c = gpu.alloc([rows, columns], "f16", "c");
            gemm(
              gpu,
              [{ a: tensorOf(gpu, a, [rows, depth], "f16"), b: tensorOf(gpu, b, [depth, columns], "f16") }],
              c,
              {
                tiling,
                plan: (tiles) => (parts === 1 ? { full: tiles, tail: 0, parts } : { full: 0, tail: tiles, parts }),
              },
            );
            expectNear(await gpu.readFloats(c), gemmReference([{ a, b, depth }], rows, columns), HALF);
          }, 1_200_000);
        }
      }
    }

    // Depths in pairs of tiles: one, two, odd and even numbers of them, alone and before terms of one pair and more.
    for (const [rows, depths] of [
      [33, [64]],
      [70, [128]],
      [1, [192]],
      [70, [320, 64]],
      [130, [64, 128]],
      [97, [256, 192, 64]],
      [70, [64, 64]],
    ] as const) {
      for (const tiling of real ? [...relays, tinyRelay] : [tinyRelay]) {
        if (!real && (n !== 8 || m !== 16)) continue;
        for (const parts of [1, 2]) {
          test(`images, ${rows} rows, depths ${depths.join(" + ")}, ${tiling.name}, in ${parts}`, async () => {
            const gpu = await open();
            const columns = real ? 512 : 256;
            const data = depths.map((depth, i) => ({
              depth,
              stride: depth + 64,
              column: 32,
              a: half(rows * (depth + 64), 2 * i),
              b: half(depth * columns, 2 * i + 1),
            }));
            const terms = data.map(({ a, b, depth, stride, column }) => ({
              a: tensorOf(gpu, a, [rows, stride], "f16"),
              b: tensorOf(gpu, imageOf(b, depth, columns), [depth, columns], "f16"),
              column,
            }));
            const whole = gpu.alloc([rows + 64, columns], "f16", "c");
            gpu.write(whole, new Uint16Array((rows + 64) * columns).fill(0x7e00));
            const c = { ...whole, shape: [rows, columns] };
            const options = {
              tiling,
              layout: "image" as const,
              plan: (tiles: number) =>
                parts === 1 ? { full: tiles, tail: 0, parts } : { full: tiles - 1, tail: 1, parts },
            };
            gemm(gpu, terms, c, options);
            const want = gemmReference(data, rows, columns);
            const got = await gpu.readFloats(whole);
            expectNear(got.slice(0, rows * columns), want, HALF);
            expect(got.slice(rows * columns).every(Number.isNaN)).toBe(true);
            gemm(gpu, terms, c, { ...options, accumulate: true });
            const twice = Float64Array.from(want, (v, i) => v + got[i]!);
            expectNear((await gpu.readFloats(whole)).slice(0, rows * columns), twice, HALF);
          }, 1_200_000);
        }
      }
    }

    // Rows in part of a tile and in more than one; alone, before a term on rows, and before one whose place is its own.
    for (const [rows, depths] of [
      [70, [128]],
      [301, [320, 64]],
      [129, [320, 128, 64]],
    ] as const) {
      for (const parts of [1, 2]) {
        test.skipIf(!real)(
          `a packed left operand, ${rows} rows, depths ${depths.join(" + ")}, in ${parts}`,
          async () => {
            const gpu = await open();
            const columns = 512;
            const data = depths.map((depth, i) => ({
              depth,
              stride: i === 0 ? depth : depth + 64,
              column: i === 0 ? 0 : 32,
              a: half(rows * (depth + 64), 2 * i),
              b: half(depth * columns, 2 * i + 1),
            }));
            const terms = data.map(({ a, b, depth, stride, column }, i) => {
              const left = tensorOf(gpu, a.slice(0, rows * stride), [rows, stride], "f16");
              const right = tensorOf(gpu, imageOf(b, depth, columns), [depth, columns], "f16");
              if (i > 0) return { a: left, b: right, column };
              return { a: left, b: right, packed: packLeft(gpu, left) };
            });
            // What is packed is read, not the rows.
            await gpu.idle();
            gpu.write(terms[0]!.a, new Uint16Array(rows * depths[0]).fill(0x7e00));
            const c = gpu.alloc([rows, columns], "f16", "c");
            gpu.write(c, new Uint16Array(rows * columns).fill(0x7e00));
            const tiling = relays[0]!;
            const plan = (tiles: number) =>
              parts === 1 ? { full: tiles, tail: 0, parts } : { full: tiles - 1, tail: 1, parts };
            gemm(gpu, terms, c, { tiling, layout: "image", plan });
            const want = gemmReference(data, rows, columns);
            expectNear(await gpu.readFloats(c), want, HALF);
          },
          1_200_000,
        );
      }
    }

    test("a linear with its LoRA branch, and three input gradients at once", async () => {
      const gpu = await open();
      const [rows, inF, outF, rank] = real ? [301, 256, 512, 64] : [67, 128, 64, 64];
      const [x, wT, u, bT] = [half(rows * inF, 1), half(inF * outF, 2), half(rows * 3 * rank, 3), half(rank * outF, 4)];
      const how = real ? {} : { tiling: tiny };
      const y = gpu.alloc([rows, outF], "f16", "y");
      const tensors = {
        x: tensorOf(gpu, x, [rows, inF], "f16"),
        wT: tensorOf(gpu, wT, [inF, outF], "f16"),
        u: tensorOf(gpu, u, [rows, 3 * rank], "f16"),
        bT: tensorOf(gpu, bT, [rank, outF], "f16"),
      };
      gemmForward(gpu, tensors.x, tensors.wT, y, { ...how, lora: { u: tensors.u, column: rank, bT: tensors.bT } });
      const terms = [
        { a: x, b: wT, depth: inF },
        { a: u, b: bT, depth: rank, stride: 3 * rank, column: rank },
      ];
      const want = gemmReference(terms, rows, outF);
      const got = await gpu.readFloats(y);
      expectNear(got, want, HALF);
      // accumulate: the same sum once more, on top of the rounded one
      gemmForward(gpu, tensors.x, tensors.wT, y, {
        ...how,
        lora: { u: tensors.u, column: rank, bT: tensors.bT },
        accumulate: true,
        // the last tile is shared by two workgroups; the low-rank term, too short for that, belongs to one of them
        plan: (tiles) => ({ full: tiles - 1, tail: 1, parts: 2 }),
      });
      expectNear(
        await gpu.readFloats(y),
        Float64Array.from(want, (v, i) => v + got[i]!),
        HALF,
      );
      const dX = gpu.alloc([rows, inF], "f16", "dX");
      const [dQ, wQ, dK, wK, a] = [
        half(rows * outF, 5),
        half(outF * inF, 6),
        half(rows * 128, 7),
        half(128 * inF, 8),
        half(3 * rank * inF, 9),
      ];
      gemmInputGradient(
        gpu,
        [
          { dY: tensorOf(gpu, dQ, [rows, outF], "f16"), w: tensorOf(gpu, wQ, [outF, inF], "f16") },
          { dY: tensorOf(gpu, dK, [rows, 128], "f16"), w: tensorOf(gpu, wK, [128, inF], "f16") },
        ],
        dX,
        { ...how, lora: { dU: tensors.u, a: tensorOf(gpu, a, [3 * rank, inF], "f16") } },
      );
      const sum = gemmReference(
        [
          { a: dQ, b: wQ, depth: outF },
          { a: dK, b: wK, depth: 128 },
          { a: u, b: a, depth: 3 * rank },
        ],
        rows,
        inF,
      );
      expectNear(await gpu.readFloats(dX), sum, HALF);
    }, 1_200_000);

    test("LoRA's thin products, with a mask for each linear", async () => {
      const gpu = await open();
      const [rows, features] = real ? [401, 512] : [131, 192];
      const [x, dU, dY] = [half(rows * features, 1), half(rows * 128, 2), half(rows * features, 3)];
      const [aT, a, b] = [half(features * 128, 4), half(128 * features, 5), half(features * 64, 6)];
      const keys = rowKeys(rows);
      const [seed, p] = [77, 0.25];
      const members = [
        { site: 3, p, width: 64 },
        { site: 9, p, width: 64 },
      ];
      const dropout = { rowKeys: tensorOf(gpu, keys, [rows], "u32"), seed, members };
      // kernels leave 1 / (1 - p) to the other operand
      const masks = members.map(({ site }) =>
        dropoutMask(keys, features, { site, seed, p }).map((v) => (v === 0 ? 0 : 1)),
      );
      const columns = (from: ArrayLike<number>, rowCount: number, first: number): Float64Array =>
        Float64Array.from({ length: rowCount * 64 }, (_, i) => from[Math.floor(i / 64) * 128 + first + (i % 64)]!);
      const [xT, dUT, dYT, bT] = [
        tensorOf(gpu, x, [rows, features], "f16"),
        tensorOf(gpu, dU, [rows, 128], "f16"),
        tensorOf(gpu, dY, [rows, features], "f16"),
        tensorOf(gpu, b, [features, 64], "f16"),
      ];

      const wantU = members.map((_, i) =>
        gemmReference([{ a: times(x, masks[i]!), b: columns(aT, features, 64 * i), depth: features }], rows, 64),
      );
      const aTT = tensorOf(gpu, aT, [features, 128], "f16");
      for (const splits of real ? [1, 2, 4, undefined] : [1, 3]) {
        const u = gpu.alloc([rows, 128], "f16", "u");
        loraDown(
          gpu,
          xT,
          aTT,
          u,
          dropout,
          splits === undefined ? {} : { splits, tileRows: splits === 2 || !real ? 64 : 256 },
        );
        const got = await gpu.readFloats(u);
        wantU.forEach((want, i) =>
          expectNear(columns(got, rows, 64 * i), want, HALF, `u of member ${i}, ${splits} splits`),
        );
      }

      const ranks = gpu.upload(new Uint16Array(rows * 128), [rows, 128], "f16", "ranks");
      loraRankGradient(gpu, dYT, bT, ranks, 64, real ? {} : { tileRows: 64 });
      const gotRanks = await gpu.readFloats(ranks);
      expectNear(columns(gotRanks, rows, 64), gemmReference([{ a: dY, b, depth: features }], rows, 64), HALF);
      expectClose(columns(gotRanks, rows, 0), new Float64Array(rows * 64), {}, "columns of the other member");

      const dX = gpu.alloc([rows, features], "f16", "dX");
      loraMaskedGradient(gpu, dUT, tensorOf(gpu, a, [128, features], "f16"), dX, dropout);
      const parts = members.map((_, i) =>
        times(
          gemmReference(
            [{ a: columns(dU, rows, 64 * i), b: a.slice(64 * i * features, 64 * (i + 1) * features), depth: 64 }],
            rows,
            features,
          ),
          masks[i]!,
        ),
      );
      expectNear(
        await gpu.readFloats(dX),
        parts[0]!.map((v, i) => v + parts[1]![i]!),
        HALF,
      );

      // gradients of B [F, rank] (rank 40, padded to 64) and of A [rank, F]; f32, added to what is there
      const gradB = tensorOf(gpu, normals(features * 40, 1), [features, 40], "f32");
      const beforeB = await gpu.readFloats(gradB);
      loraGradientB(gpu, dYT, dUT, gradB, {
        scale: 0.5,
        column: 64,
        width: 64,
        ...(real ? { tileRows: 256 } : { splits: 2 }),
      });
      const sumB = gemmReference(
        [{ a: transposed(dY, rows, features), b: columns(dU, rows, 64), depth: rows }],
        features,
        64,
      );
      const wantB = Float64Array.from(beforeB, (v, i) => v + 0.5 * sumB[Math.floor(i / 40) * 64 + (i % 40)]!);
      expectNear(await gpu.readFloats(gradB), wantB, 1e-5);

      const gradA = [40, 64].map((rank, i) => tensorOf(gpu, normals(rank * features, i), [rank, features], "f32"));
      const beforeA = await Promise.all(gradA.map((g) => gpu.readFloats(g)));
      loraGradientA(
        gpu,
        xT,
        dUT,
        gradA.map((grad) => ({ grad, width: 64, scale: 1 / (1 - p) })),
        dropout,
        real ? {} : { splits: 3 },
      );
      for (const [i, grad] of gradA.entries()) {
        const sum = gemmReference(
          [{ a: transposed(columns(dU, rows, 64 * i), rows, 64), b: times(x, masks[i]!), depth: rows }],
          64,
          features,
        );
        expectNear(
          await gpu.readFloats(grad),
          beforeA[i]!.map((v, j) => v + sum[j]! / (1 - p)),
          1e-5,
          `gradient of A ${i}`,
        );
      }
    }, 3_000_000);
  });
}

/** A random weight, double-quantized or not. */
function weightOf(outF: number, inF: number, dtype: Packed4bit["dtype"], double: boolean): Packed4bit {
  const next = random(runSeed + outF);
  const codes = Uint8Array.from({ length: (outF * inF) / 2 }, () => next() * 256);
  const blocks = (outF * inF) / 64;
  const shared = { shape: [outF, inF] as const, dtype, codes, codeBook: nf4CodeBook };
  if (!double) return { ...shared, absmax: Float32Array.from({ length: blocks }, () => next()) };
  return {
    ...shared,
    absmax: Uint8Array.from({ length: blocks }, () => next() * 256),
    nestedAbsmax: Float32Array.from({ length: Math.ceil(blocks / 256) }, () => next() * 0.1),
    nestedMap: createDynamicMap(true),
    nestedOffset: Math.fround(0.03 + next() * 0.01),
  };
}

for (const tier of tiers.filter((t) => t !== "f32")) {
  describe(`operands of gemm, tier ${tier} (seed ${runSeed})`, () => {
    for (const [outF, inF, dtype, double] of [
      [64, 64, "bfloat16", true],
      [128, 320, "float16", true],
      [192, 256, "bfloat16", false],
      [64, 192, "float32", true],
    ] as const) {
      test(`dequantize [${outF},${inF}] ${dtype}${double ? ", double-quantized" : ""}`, async () => {
        const gpu = await gpuOf(tier);
        const raw = weightOf(outF, inF, dtype, double);
        const weight = upload4bit(gpu, raw, "test");
        const want = rounded(dequantize4bit(raw), "f16");
        for (const lookup of dtype === "bfloat16" ? (["table", "select"] as const) : (["table"] as const)) {
          const rows = gpu.alloc([outF, inF], "f16", "rows");
          const turned = gpu.alloc([inF, outF], "f16", "turned");
          dequantizeRows(gpu, weight, rows, { lookup });
          dequantizeTransposed(gpu, weight, turned, { lookup });
          expectClose(await gpu.readFloats(rows), want, {}, "rows");
          expectClose(await gpu.readFloats(turned), transposed(want, outF, inF), {}, "transposed");
        }
      }, 30_000);
    }

    for (const [outF, inF] of [
      [512, 192],
      [192, 256],
      [256, 768],
    ] as const) {
      test(`dequantize [${outF},${inF}] into images`, async () => {
        const gpu = await gpuOf(tier);
        const raw = weightOf(outF, inF, "bfloat16", true);
        const weight = upload4bit(gpu, raw, "test");
        const want = rounded(dequantize4bit(raw), "f16");
        const layout = "image";
        if (inF % 256 === 0) {
          const rows = gpu.alloc([outF, inF], "f16", "rows");
          dequantizeRows(gpu, weight, rows, { layout });
          expectClose(await gpu.readFloats(rows), imageOf(want, outF, inF), {}, "rows");
        } else {
          const rows = gpu.alloc([outF, inF], "f16", "rows");
          expect(() => dequantizeRows(gpu, weight, rows, { layout })).toThrow("multiple of 256 columns");
        }
        if (outF % 256 !== 0) return;
        const turned = gpu.alloc([inF, outF], "f16", "turned");
        dequantizeTransposed(gpu, weight, turned, { layout });
        expectClose(await gpu.readFloats(turned), imageOf(transposed(want, outF, inF), inF, outF), {}, "transposed");
      }, 30_000);
    }

    for (const [rows, depth] of [
      [1, 64],
      [130, 192],
      [257, 128],
    ] as const) {
      test(`a left operand of ${rows} x ${depth} as an image, its last row repeated`, async () => {
        const gpu = await gpuOf(tier);
        const a = half(rows * depth, 3);
        const image = packLeft(gpu, tensorOf(gpu, a, [rows, depth], "f16"));
        const got = await gpu.readFloats(image);
        const padded = Math.ceil(rows / 128) * 128;
        expect(image.shape).toEqual([padded, depth]);
        const want = new Float32Array(padded * depth);
        for (let row = 0; row < padded; row++)
          for (let k = 0; k < depth; k++) want[leftImageIndex(row, k, depth)] = a[Math.min(row, rows - 1) * depth + k]!;
        expectClose(got, want, {}, "image");
      });
    }

    test("f16 copies of LoRA's masters as images", async () => {
      const gpu = await gpuOf(tier);
      const [rank, columns] = [40, 512];
      const master = normals(rank * columns, runSeed);
      const want = new Float32Array(128 * columns);
      want.set(rounded(master, "f16"), 64 * columns);
      const straight = gpu.upload(new Uint16Array(128 * columns), [128, columns], "f16", "a");
      const turned = gpu.upload(new Uint16Array(128 * columns), [128, columns], "f16", "aT");
      const tensor = tensorOf(gpu, master, [rank, columns], "f32");
      const apart = gpu.alloc([columns, 64], "f16", "rows");
      const layout = "image";
      castHalf(gpu, tensor, {
        scale: 1,
        padded: [64, columns],
        straight: { into: straight, firstRow: 64, layout },
        transposed: { into: apart },
      });
      expectClose(await gpu.readFloats(straight), imageOf(want, 128, columns), {}, "straight");
      const flipped = tensorOf(gpu, transposed(master, rank, columns), [columns, rank], "f32");
      castHalf(gpu, flipped, {
        scale: 1,
        padded: [columns, 64],
        straight: { into: apart },
        transposed: { into: turned, firstRow: 64, layout },
      });
      expectClose(await gpu.readFloats(turned), imageOf(want, 128, columns), {}, "transposed");
    });

    // Four neighbours at a time, and one where a side is odd.
    test.each([
      [40, 96],
      [41, 96],
      [8, 77],
    ])("f16 copies of LoRA's masters, straight and transposed, padded: [%i,%i]", async (rank, columns) => {
      const gpu = await gpuOf(tier);
      const master = normals(rank * columns, runSeed);
      const straight = gpu.alloc([128, columns], "f16", "a");
      const turned = gpu.alloc([columns, 128], "f16", "aT");
      castHalf(gpu, tensorOf(gpu, master, [rank, columns], "f32"), {
        scale: 1.25,
        padded: [64, columns],
        straight: { into: straight, firstRow: 64 },
        transposed: { into: turned, firstColumn: 64 },
      });
      const want = new Float32Array(64 * columns);
      want.set(
        rounded(
          master.map((v) => Math.fround(1.25 * v)),
          "f16",
        ),
      );
      expectClose((await gpu.readFloats(straight)).slice(64 * columns), want, {}, "straight");
      const got = await gpu.readFloats(turned);
      const part = Float32Array.from(
        { length: columns * 64 },
        (_, i) => got[Math.floor(i / 64) * 128 + 64 + (i % 64)]!,
      );
      expectClose(part, transposed(want, 64, columns), {}, "transposed");
    });
  });
}

describe("gemm's rules", () => {
  const limits = { maxComputeInvocationsPerWorkgroup: 1024, maxComputeWorkgroupStorageSize: 49152 };
  const unit: MatrixUnit = { m: 16, n: 16, k: 16, lanes: 32 };
  const capabilities = (...shapes: [number, number, number, string][]) => ({
    f16: true,
    subgroups: true,
    subgroupSize: 32,
    timestamps: true,
    matrixShapes: shapes.map(([m, n, k, result]) => ({ m, n, k, component: "f16", result })),
  });

  test("the unit is the largest that the adapter reports for f16 into f32", () => {
    expect(matrixUnit(capabilities([16, 8, 8, "f32"], [16, 16, 16, "f32"], [16, 8, 16, "f32"]))).toEqual(unit);
    expect(matrixUnit(capabilities([8, 8, 8, "f32"]))).toEqual({ m: 8, n: 8, k: 8, lanes: 32 });
    expect(matrixUnit(capabilities([16, 16, 16, "f16"]))).toBeUndefined();
    expect(matrixUnit(capabilities([32, 32, 16, "f32"]))).toBeUndefined();
  });

  test("tilings follow the shape and the limits", () => {
    expect(chooseTiling(unit, limits, 8192, 3584, [4096])?.name).toBe("wide");
    expect(chooseTiling(unit, limits, 8192, 1152, [4096])?.name).toBe("medium");
    expect(chooseTiling(unit, limits, 8192, 64, [4096])?.name).toBe("small");
    expect(chooseTiling(unit, limits, 8192, 100, [4096])).toBeUndefined();
    expect(chooseTiling(unit, { ...limits, maxComputeInvocationsPerWorkgroup: 128 }, 8192, 3584, [4096])?.name).toBe(
      "medium",
    );
    expect(chooseTiling({ ...unit, m: 8, n: 8, k: 8 }, limits, 8192, 3584, [4096])?.name).toBe("small");
  });

  test("relay tiles serve images where the adapter has narrow matrices and 48 KiB", () => {
    const image = { layout: "image", narrow: true } as const;
    expect(chooseTiling(unit, limits, 8192, 3584, [4096], image)?.name).toBe("relay");
    expect(chooseTiling(unit, limits, 8192, 3584, [4096, 64], image)?.name).toBe("relay");
    // Two terms of one pair of tiles each: the first is too short to start the second on its way.
    expect(chooseTiling(unit, limits, 8192, 3584, [64, 64], image)?.name).toBe("wide");
    expect(chooseTiling(unit, limits, 8192, 3584, [4096], { ...image, narrow: false })?.name).toBe("wide");
    const small = { ...limits, maxComputeWorkgroupStorageSize: 49151 };
    expect(chooseTiling(unit, small, 8192, 3584, [4096], image)?.name).toBe("wide");
    const gpuWith = (over: { shapes?: [number, number, number, string][]; storage?: number }): Gpu =>
      metaGpu({
        ...NVIDIA,
        info: { ...NVIDIA.info, ...(over.shapes && { capabilities: capabilities(...over.shapes) }) },
        limits: { ...NVIDIA.limits, maxComputeWorkgroupStorageSize: over.storage ?? 49152 },
      });
    expect(operandLayout(gpuWith({}), 3584)).toBe("image");
    expect(operandLayout(gpuWith({}), 3584, 2)).toBe("rows");
    expect(operandLayout(gpuWith({}), 1152)).toBe("rows");
    expect(operandLayout(gpuWith({ storage: 32768 }), 3584)).toBe("rows");
    expect(operandLayout(gpuWith({ shapes: [[16, 16, 16, "f32"]] }), 3584)).toBe("rows");
    expect(operandLayout(gpuWith({ shapes: [[8, 8, 8, "f32"]] }), 3584)).toBe("rows");
  });

  test("a left operand is packed for many rows and columns, where relay tiles serve all of them", () => {
    const gpu = metaGpu(NVIDIA);
    const packs = (on: Gpu, rows: number, depth: number, columns: readonly number[]): boolean =>
      packWherePaid(on, on.alloc([rows, depth], "f16", "a"), columns) !== undefined;
    // gate and up, the gradient of down's input; q k v, o, down; few rows; columns that no image holds.
    expect(packs(gpu, 8192, 3584, [14336, 14336])).toBe(true);
    expect(packs(gpu, 8192, 3584, [14336])).toBe(true);
    expect(packs(gpu, 8192, 3584, [4096, 2048, 2048])).toBe(false);
    expect(packs(gpu, 8192, 4096, [3584])).toBe(false);
    expect(packs(gpu, 8192, 14336, [3584])).toBe(false);
    expect(packs(gpu, 512, 3584, [14336, 14336])).toBe(false);
    expect(packs(gpu, 8192, 3584, [14336, 1152])).toBe(false);
    const small = metaGpu({ ...NVIDIA, limits: { ...NVIDIA.limits, maxComputeWorkgroupStorageSize: 32768 } });
    expect(packs(small, 8192, 3584, [14336, 14336])).toBe(false);
  });

  test("tails are split where that measured faster on an H100", () => {
    const wide = TUNING.tilings.find(({ name }) => name === "wide");
    const shared = ({ full, tail, parts }: TilePlan) => ({ full, tail, parts });
    // TFLOP/s of o at 4096 tokens: 264 whole, 283 in 2 parts, 272 in 4; tiles of `medium` reached 269.
    expect(chooseTiling(unit, limits, 4096, 3584, [4096, 64])).toBe(wide);
    expect(shared(planTiles(wide!, 448, [4096, 64]))).toEqual({ full: 396, tail: 52, parts: 2 });
    // q, k, v at 2048 tokens: 257 whole, 225 in 4.
    expect(planTiles(wide!, 224, [4096, 2048, 2048])).toMatchObject({ full: 224, tail: 0 });
    // down at 8192: 288 whole, 291 in 5, which is not worth two more kernels.
    expect(planTiles(wide!, 896, [14336])).toMatchObject({ full: 896, tail: 0 });
    // o at 6144: 262 whole, 278 in 2, 290 in 7 or 8.
    expect(planTiles(wide!, 672, [4096, 64]).parts).toBeGreaterThan(6);
  });

  test("thin products are cut into one even wave, by large tiles where these fill the device (H200, 9B)", () => {
    // q,k,v, o and gate at 8192 tokens: each was the fastest of 16 ways, or within 3 % of it.
    expect(thinPlan(8192, 192, 3584, true)).toEqual({ tileRows: 256, splits: 1 });
    expect(thinPlan(8192, 64, 4096, true)).toEqual({ tileRows: 256, splits: 4 });
    expect(thinPlan(8192, 64, 14336, true)).toEqual({ tileRows: 256, splits: 4 });
    expect(thinPlan(8192, 64, 2048, true)).toEqual({ tileRows: 64, splits: 2 });
    expect(tokenSumPlan(14336, 64, true)).toEqual({ tileRows: 256, splits: 2 });
    expect(tokenSumPlan(4096, 64, true)).toEqual({ tileRows: 64, splits: 4 });
    expect(tokenSumPlan(2048, 64, true)).toEqual({ tileRows: 64, splits: 8 });
    expect(tokenSumPlan(3584, 192, true)).toEqual({ tileRows: 64, splits: 3 });
    expect(maskedRun(128 * 56)).toBe(7);
    // Small devices and few tokens: small tiles, and as many parts as may be.
    expect(thinPlan(8192, 64, 14336, false)).toEqual({ tileRows: 64, splits: 2 });
    expect(thinPlan(1024, 64, 3584, true)).toEqual({ tileRows: 64, splits: 8 });
    expect(thinPlan(1, 64, 64, true)).toEqual({ tileRows: 64, splits: 1 });
    expect(maskedRun(1)).toBe(1);
    expect(tokenSumPlan(14336, 64, false)).toEqual({ tileRows: 64, splits: 2 });
    expect(tokenSumPlan(64, 64, true)).toEqual({ tileRows: 64, splits: 8 });
    for (const features of [2304, 9216, 36864, 4608, 28672]) {
      for (const columns of [64, 128, 192, 256]) {
        const { tileRows, splits } = tokenSumPlan(features, columns, true);
        expect(features % tileRows).toBe(0);
        expect(splits).toBeGreaterThanOrEqual(1);
      }
    }
  });

  test("ranks are padded to 64", () => {
    expect([1, 8, 64, 65, 128].map(paddedRank)).toEqual([64, 64, 64, 128, 128]);
  });

  test.skipIf(tiers.length === 0)("a device of another tier is refused with a reason", async () => {
    const gpu = await gpuOf("f32");
    expect(gemmSupports(gpu, { inFeatures: 128, outFeatures: 128 })).toBe(false);
    expect(gemmRefusal(gpu, { inFeatures: 128, outFeatures: 128 })).toContain("tier f32");
  });
});
