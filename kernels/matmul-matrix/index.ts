import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { DEFAULT_VARIANT, matmulSpec, type MatmulVariant, variantKey } from "./gemm.ts";
import type { OperandLayout } from "./image.ts";
import { type MatmulShape, matmulUniforms, type MatmulTerm } from "./launch.ts";
import { relaySpec } from "./relay.ts";
import { sumTail } from "./split-k.ts";
import { tilingOf, unitKey, unitOf } from "./support.ts";
import {
  IMAGE,
  LEFT_IMAGE,
  type MatrixUnit,
  planTiles,
  relayServes,
  type TilePlan,
  tilesOf,
  type Tiling,
  TUNING,
} from "./tiling.ts";

export { castHalf, type CastOptions, type CopyTarget } from "./copies.ts";
export { type CodeLookup, dequantizeRows, dequantizeTransposed, keepTransposed } from "../nf4/dequantize-f16.ts";
export {
  loraDown,
  loraGradientA,
  loraGradientB,
  loraMaskedGradient,
  loraRankGradient,
  type LoraDropout,
  type LoraMember,
  type ThinOptions,
} from "./lora.ts";
export { leftImageIndex, packLeft, packWherePaid } from "./left-image.ts";
export { imageIndex, type OperandLayout, operandLayout } from "./image.ts";
export type { MatmulVariant } from "./gemm.ts";
export { gemmRefusal, type GemmShape, gemmSupports } from "./support.ts";
export { type MatrixUnit, paddedRank, planTiles, type TilePlan, type Tiling, TUNING } from "./tiling.ts";

/** One product of a sum: columns `column … column + depth` of a [N, …] times b [depth, columns]; both f16. */
export interface GemmTerm {
  readonly a: Tensor;
  readonly b: Tensor;
  /** First column of `a` that takes part; default 0. */
  readonly column?: number;
  /** `a` as `packLeft` lays it out; read in its place where tiles are made for it. */
  readonly packed?: Tensor | undefined;
}

/** Settings of `gemm`. */
export interface GemmOptions {
  /** Adds to what `c` holds. */
  readonly accumulate?: boolean;
  /** How every `b` lies; default row by row. `operandLayout` says what is fastest. */
  readonly layout?: OperandLayout;
  /** Measured choices, for benchmarks. */
  readonly tiling?: Tiling;
  readonly variant?: Partial<MatmulVariant>;
  readonly plan?: (tiles: number) => TilePlan;
}

/**
 * `c [N,columns] f16 = sum over terms of a_t * b_t`, summed in f32. Any N; depths and columns are multiples of 64.
 * Rows past N are neither read nor written.
 * @throws RangeError for shapes that do not fit together
 */
export function gemm(gpu: Gpu, terms: readonly GemmTerm[], c: Tensor, options: GemmOptions = {}): void {
  const [rows, columns] = matrixShape(c);
  expectTensor(c, [-1, -1], "f16");
  const sized = terms.map(({ a, b, column = 0, packed }): MatmulTerm & GemmTerm => {
    expectTensor(a, [rows, -1], "f16");
    if (packed !== undefined)
      expectTensor(packed, [Math.ceil(rows / LEFT_IMAGE.rows) * LEFT_IMAGE.rows, a.shape[1]!], "f16");
    expectTensor(b, [-1, columns], "f16");
    const [depth, stride] = [b.shape[0]!, a.shape[1]!];
    if (
      depth % TUNING.depthMultiple !== 0 ||
      stride % 8 !== 0 ||
      column % TUNING.depth !== 0 ||
      column + depth > stride
    ) {
      throw new RangeError(
        `gemm: ${depth} columns of ${a.label} [${a.shape.join(",")}] from ${column} on cannot meet ${b.label} [${b.shape.join(",")}]`,
      );
    }
    return { a, b, depth, stride, column, packed };
  });
  if (rows === 0 || terms.length === 0) throw new RangeError(`gemm into ${c.label}: no rows or no terms`);
  const unit = unitOf(gpu);
  const depths = sized.map(({ depth }) => depth);
  const layout = options.layout ?? "rows";
  if (layout === "image" && columns % IMAGE.columns !== 0)
    throw new RangeError(`gemm into ${c.label}: images hold multiples of ${IMAGE.columns} columns, not ${columns}`);
  if (layout === "rows" && options.tiling?.relay === true)
    throw new RangeError(`gemm into ${c.label}: tiling ${options.tiling.name} reads images, not rows`);
  const tiling = options.tiling ?? tilingOf(gpu, rows, columns, depths, layout);
  const variant = { ...DEFAULT_VARIANT, ...options.variant };
  const accumulate = options.accumulate ?? false;
  const tiles = tilesOf(tiling, rows, columns);
  const plan = options.plan?.(tiles) ?? planTiles(tiling, tiles, depths);
  const launch = (
    ordered: readonly (MatmulTerm & GemmTerm)[],
    divided: number | undefined,
    into: Tensor,
    place: { readonly first: number; readonly tiles: number; readonly parts: number },
  ): void => {
    const of = (some: readonly MatmulTerm[]): number[] => some.map(({ depth }) => depth);
    const sums = [ordered.slice(0, divided), divided === undefined ? [] : ordered.slice(divided)];
    const relays = sums.every((some, i) => some.length === 0 || relayServes(of(some), i === 0 ? place.parts : 1));
    const how = relays ? tiling : { ...tiling, relay: false };
    const reads = how.relay === true && how.rows === LEFT_IMAGE.rows;
    const lefts = ordered.map(({ a, packed }) => (reads && packed !== undefined ? packed : a));
    const packed = ordered.map(({ a }, i) => lefts[i] !== a);
    const shape = { terms: ordered.length, divided, layout, packed };
    const kernel = gpu.kernel(
      matmulKey(unit, how, shape, variant),
      () => (how.relay ? relaySpec(unit, how, shape, variant.group) : matmulSpec(unit, how, shape, variant)),
      LONG_TEXT,
    );
    gpu.dispatch(
      kernel,
      [...ordered.flatMap(({ b }, i) => [lefts[i]!, b]), into],
      matmulUniforms({ rows, columns, ...place, accumulate, terms: ordered }),
      gridFor(place.tiles * place.parts),
      { flops: ((2 * rows * columns * place.tiles) / tiles) * depths.reduce((sum, depth) => sum + depth, 0) },
    );
  };
  const { full, tail, parts } = plan;
  // The longest term first: it starts the others on their way.
  if (tiling.relay) sized.sort((x, y) => y.depth - x.depth);
  if (full > 0) launch(sized, undefined, c, { first: 0, tiles: full, parts: 1 });
  if (tail === 0) return;
  const partial = gpu.alloc([parts, tail, tiling.rows * tiling.columns], "f32", `partial ${c.label}`, "scratch");
  // Terms too short to be shared out come last.
  const isLong = ({ depth }: MatmulTerm): boolean => depth >= parts * TUNING.depthMultiple;
  const [long, short] = [sized.filter(isLong), sized.filter((term) => !isLong(term))];
  launch([...long, ...short], long.length, partial, { first: full, tiles: tail, parts });
  sumTail(gpu, partial, c, { tiling, group: variant.group, accumulate, rows, first: full, tiles: tail });
  gpu.free(partial);
}

function matmulKey(
  unit: MatrixUnit,
  tiling: Tiling,
  { terms, divided, layout, packed }: MatmulShape,
  variant: MatmulVariant,
): string {
  const parts = divided === undefined ? "whole" : `${divided} divided`;
  const left = packed.some(Boolean) ? `/packed ${packed.map(Number).join("")}` : "";
  const how = tiling.relay ? `relay/g${variant.group}${left}` : `${layout}/${variantKey(variant)}`;
  return `gemm/${unitKey(unit)}/${tiling.rows}x${tiling.columns}/${terms}/${parts}/${how}`;
}

/** The low-rank side of a forward product. */
export interface ForwardLora {
  /** [N, …] f16: A(dropout(x)) of every linear that shares x. */
  readonly u: Tensor;
  /** First column of this linear in `u`; default 0. */
  readonly column?: number;
  /** [R,out] f16: the transposed, scaled, padded copy of B. */
  readonly bT: Tensor;
}

/**
 * `y [N,out] = x [N,in] * wT [in,out] (+ u * bT)`: a linear with its LoRA branch, as one product of depth in + R.
 * @param wT from `dequantizeTransposed`
 * @param options `packed`: x as `packLeft` lays it out
 */
export function gemmForward(
  gpu: Gpu,
  x: Tensor,
  wT: Tensor,
  y: Tensor,
  options: GemmOptions & { readonly lora?: ForwardLora | undefined; readonly packed?: Tensor | undefined } = {},
): void {
  expectTensor(wT, [x.shape[1]!, y.shape[1]!], "f16");
  const { lora, packed, ...rest } = options;
  gemm(
    gpu,
    [{ a: x, b: wT, packed }, ...(lora === undefined ? [] : [{ a: lora.u, b: lora.bT, column: lora.column ?? 0 }])],
    y,
    rest,
  );
}

/** The low-rank side of an input gradient without dropout. */
export interface BackwardLora {
  /** [N,R] f16: gradients of the ranks of every linear that shares the input. */
  readonly dU: Tensor;
  /** [R,in] f16: their A, one below another. */
  readonly a: Tensor;
}

/**
 * `dX [N,in] = sum over i of dY_i [N,out_i] * w_i [out_i,in] (+ dU * a)`: the input gradient of all linears that share
 * an input, as one product. With dropout, let `loraMaskedGradient` write dX first, and pass `accumulate`.
 * @param linears w from `dequantizeRows`
 */
export function gemmInputGradient(
  gpu: Gpu,
  linears: readonly { readonly dY: Tensor; readonly w: Tensor; readonly packed?: Tensor | undefined }[],
  dX: Tensor,
  options: GemmOptions & { readonly lora?: BackwardLora | undefined } = {},
): void {
  const { lora, ...rest } = options;
  for (const { dY, w } of linears) expectTensor(w, [dY.shape[1]!, dX.shape[1]!], "f16");
  gemm(
    gpu,
    [
      ...linears.map(({ dY, w, packed }) => ({ a: dY, b: w, packed })),
      ...(lora === undefined ? [] : [{ a: lora.dU, b: lora.a }]),
    ],
    dX,
    rest,
  );
}
