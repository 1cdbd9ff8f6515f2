/** Jobs of LoRA's thin products and of the kernels that prepare operands: all bound by bandwidth. */
import type { FrozenWeight } from "../../core/compute/linear.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import {
  castHalf,
  dequantizeRows,
  dequantizeTransposed,
  loraDown,
  type LoraDropout,
  loraGradientA,
  loraGradientB,
  loraMaskedGradient,
  loraRankGradient,
  type ThinOptions,
} from "../../kernels/matmul-matrix/index.ts";
import { fill, randomTensor, sampleError } from "./data.ts";
import type { Session } from "./session.ts";
import { BLOCKS } from "./shapes.ts";

const RANK = 64;
const P = 0.05;
const SEED = 1234;
/** Copies of the large operand that launches take in turn, so that none is found in L2 (50 MB). */
const COPIES = 4;

/** The products of one group of linears that share an input of `inFeatures`; gradients for one output of `outFeatures`. */
async function group(
  session: Session,
  name: string,
  tokens: number,
  inFeatures: number,
  outFeatures: number,
  members: number,
  tuning: boolean,
): Promise<void> {
  const { gpu } = session;
  const width = RANK * members;
  const rowKeys = randomTensor(gpu, [tokens], "bits");
  const dropout: LoraDropout = {
    rowKeys,
    seed: SEED,
    members: Array.from({ length: members }, (_, i) => ({ site: 7 + i, p: P, width: RANK })),
  };
  const xs = Array.from({ length: COPIES }, () => randomTensor(gpu, [tokens, inFeatures]));
  const dYs = Array.from({ length: COPIES }, () => randomTensor(gpu, [tokens, outFeatures]));
  const [aT, a, b] = [
    randomTensor(gpu, [inFeatures, width]),
    randomTensor(gpu, [width, inFeatures]),
    randomTensor(gpu, [outFeatures, RANK]),
  ];
  const [u, dU] = [randomTensor(gpu, [tokens, width]), randomTensor(gpu, [tokens, width])];
  const dX = gpu.alloc([tokens, inFeatures], "f16", "dX");
  const gradB = gpu.alloc([outFeatures, RANK], "f32", "gradient of B");
  const gradsA = Array.from({ length: members }, () => gpu.alloc([RANK, inFeatures], "f32", "gradient of A"));
  const of = <T>(list: readonly T[], i: number): T => list[i % list.length]!;
  const mask = (member: number, at: "row,k" | "k,row" | "row,column") => ({
    rowKeys,
    site: 7 + member,
    seed: SEED,
    p: P,
    at,
  });
  const last = members - 1;
  const [bytesX, bytesY, bytesU] = [tokens * inFeatures * 2, tokens * outFeatures * 2, tokens * width * 2];
  const shared = { tokens, limit: 1e-3 };

  const ways: [how: string, options: ThinOptions][] = [
    ["planned", {}],
    ["64 rows, 2 splits", { tileRows: 64, splits: 2 }],
    ["64 rows, unsplit", { tileRows: 64, splits: 1 }],
    ["256 rows, 4 splits", { tileRows: 256, splits: 4 }],
    ["256 rows, unsplit", { tileRows: 256, splits: 1 }],
  ];
  for (const [how, options] of ways.slice(0, tuning ? ways.length : 1)) {
    await session.run({
      ...shared,
      section: `lora: U, ${how}`,
      name,
      bytes: bytesX + bytesU,
      launch: (i) => loraDown(gpu, of(xs, i), aT, u, dropout, options),
      check: () =>
        sampleError(
          gpu,
          [
            {
              a: xs[0]!,
              aLayout: { row: inFeatures, depth: 1 },
              b: aT,
              bLayout: { first: last * RANK, row: 1, depth: width },
              depth: inFeatures,
              mask: mask(last, "row,k"),
            },
          ],
          u,
          { rows: tokens, columns: RANK, layout: { first: last * RANK, row: width, depth: 1 } },
        ),
      outputs: [{ written: u }],
    });
  }
  await session.run({
    ...shared,
    section: "lora: U, no dropout",
    name,
    bytes: bytesX + bytesU,
    launch: (i) => loraDown(gpu, of(xs, i), aT, u),
    outputs: [{ written: u }],
  });
  for (const [how, options] of ways.slice(0, tuning ? ways.length : 1)) {
    await session.run({
      ...shared,
      section: `lora: dU, ${how}`,
      name,
      bytes: bytesY + tokens * RANK * 2,
      launch: (i) => loraRankGradient(gpu, of(dYs, i), b, dU, last * RANK, options),
      check: () =>
        sampleError(
          gpu,
          [
            {
              a: dYs[0]!,
              aLayout: { row: outFeatures, depth: 1 },
              b,
              bLayout: { row: 1, depth: RANK },
              depth: outFeatures,
            },
          ],
          dU,
          {
            rows: tokens,
            columns: RANK,
            layout: { first: last * RANK, row: width, depth: 1 },
          },
        ),
    });
  }
  fill(gpu, dU, "f16");
  await session.run({
    ...shared,
    section: "lora: masked dX",
    name,
    bytes: bytesX + bytesU,
    launch: () => loraMaskedGradient(gpu, dU, a, dX, dropout),
    check: () =>
      sampleError(
        gpu,
        Array.from({ length: members }, (_, i) => ({
          a: dU,
          aLayout: { first: i * RANK, row: width, depth: 1 },
          b: a,
          bLayout: { first: i * RANK * inFeatures, row: 1, depth: inFeatures },
          depth: RANK,
          mask: mask(i, "row,column"),
        })),
        dX,
        { rows: tokens, columns: inFeatures, layout: { row: inFeatures, depth: 1 } },
      ),
    outputs: [{ written: dX }],
  });
  const sums: [what: string, how: ThinOptions][] = [
    ["planned", {}],
    ["64 features, 2 splits", { tileRows: 64, splits: 2 }],
    ["64 features, 4 splits", { tileRows: 64, splits: 4 }],
    ["64 features, 8 splits", { tileRows: 64, splits: 8 }],
  ];
  for (const [what, how] of sums.slice(0, tuning ? sums.length : 1)) {
    await session.run({
      ...shared,
      section: `lora: dB, ${what}`,
      name,
      bytes: bytesY + tokens * RANK * 2,
      launch: (i) => {
        if (i === 0) gpu.clear(gradB);
        loraGradientB(gpu, of(dYs, i), u, gradB, { scale: 0.5, column: last * RANK, width: RANK, ...how });
      },
      check: () =>
        sampleError(
          gpu,
          [
            {
              a: dYs[0]!,
              aLayout: { row: 1, depth: outFeatures },
              b: u,
              bLayout: { first: last * RANK, row: 1, depth: width },
              depth: tokens,
            },
          ],
          gradB,
          { rows: outFeatures, columns: RANK, layout: { row: RANK, depth: 1 }, scale: 0.5 },
        ),
    });
    await session.run({
      ...shared,
      section: `lora: dA, ${what}`,
      name,
      bytes: bytesX + bytesU,
      launch: (i) => {
        if (i === 0) gradsA.forEach((grad) => gpu.clear(grad));
        loraGradientA(
          gpu,
          of(xs, i),
          dU,
          gradsA.map((grad) => ({ grad, width: RANK, scale: 1 / (1 - P) })),
          dropout,
          how,
        );
      },
      check: () =>
        sampleError(
          gpu,
          [
            {
              a: xs[0]!,
              aLayout: { row: 1, depth: inFeatures },
              b: dU,
              bLayout: { first: last * RANK, row: 1, depth: width },
              depth: tokens,
              mask: mask(last, "k,row"),
            },
          ],
          gradsA[last]!,
          { rows: inFeatures, columns: RANK, layout: { row: 1, depth: inFeatures }, scale: 1 / (1 - P) },
        ),
    });
  }
  await session.drop(rowKeys, ...xs, ...dYs, aT, a, b, u, dU, dX, gradB, ...gradsA);
}

/** All thin products of a 9B block at one number of tokens; with `tuning` in several ways. */
export async function thinProducts(session: Session, tokens: number, tuning: boolean): Promise<void> {
  const { hidden, intermediate, queries } = BLOCKS["9b"];
  await group(session, "q,k,v", tokens, hidden, queries, 3, tuning);
  await group(session, "o", tokens, queries, hidden, 1, tuning);
  await group(session, "gate", tokens, hidden, intermediate, 1, tuning);
}

/** Dequantization to both layouts, and f16 copies of LoRA's masters. */
export async function operands(session: Session): Promise<void> {
  const { gpu } = session;
  for (const [name, outFeatures, inFeatures] of [
    ["gate", 14336, 3584],
    ["down", 3584, 14336],
    ["q", 4096, 3584],
  ] as const) {
    const elements = outFeatures * inFeatures;
    const codes = randomTensor(gpu, [elements / 8], "bits");
    const absmax = randomTensor(gpu, [elements / 256], "bits");
    const nested = randomTensor(gpu, [257 + elements / 64 / 256], "f32");
    const weight: FrozenWeight = {
      kind: "nf4",
      blockSize: 64,
      name,
      outFeatures,
      inFeatures,
      codes,
      absmax,
      nested,
      rounding: "bf16",
    };
    const rows = gpu.alloc([outFeatures, inFeatures], "f16", "rows");
    const turned = gpu.alloc([inFeatures, outFeatures], "f16", "transposed");
    const shared = { tokens: 0, name, bytes: elements * (0.5 + 1 / 64 + 2) };
    for (const layout of ["rows", "image"] as const) {
      const lookup = "table";
      const [r, t] = [[{ written: rows }], [{ written: turned }]];
      await session.run({
        ...shared,
        section: `dequantize, rows, ${layout}`,
        launch: () => dequantizeRows(gpu, weight, rows, { lookup, layout }),
        outputs: r,
      });
      await session.run({
        ...shared,
        section: `dequantize, transposed, ${layout}`,
        launch: () => dequantizeTransposed(gpu, weight, turned, { lookup, layout }),
        outputs: t,
      });
    }
    await session.drop(codes, absmax, nested, rows, turned);
  }
  const master = randomTensor(gpu, [RANK, 14336], "f32");
  const [straight, transposed]: Tensor[] = [
    gpu.alloc([RANK, 14336], "f16", "a"),
    gpu.alloc([14336, RANK], "f16", "aT"),
  ];
  await session.run({
    section: "f16 copies of a LoRA master",
    name: "64 x 14336",
    tokens: 0,
    bytes: RANK * 14336 * 8,
    launch: () => castHalf(gpu, master, { scale: 1, straight: { into: straight! }, transposed: { into: transposed! } }),
    outputs: [{ written: straight! }, { written: transposed! }],
  });
  await session.drop(master, straight!, transposed!);
}
