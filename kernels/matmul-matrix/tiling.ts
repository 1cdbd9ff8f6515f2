import type { Capabilities } from "../../core/device/probe.ts";

/** The multiply-accumulate that kernels are built from: m x k times k x n, by the lanes of one subgroup. */
export interface MatrixUnit {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly lanes: number;
}

/** How a product is cut: the tile of a workgroup, and the part of it that one subgroup holds in registers. */
export interface Tiling {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly subgroupRows: number;
  readonly subgroupColumns: number;
  /** Share of the best rate, for choosing between tilings. */
  readonly efficiency: number;
  /** Made by `relay.ts`, of right operands that lie as images. */
  readonly relay?: boolean;
}

/** Right operands that lie as images (`image.ts`): columns and depth of a tile there, and its vectors of eight f16. */
export const IMAGE = { columns: 256, depth: 32, vectors: 1024 } as const;

/** Left operands that lie as images (`left-image.ts`): rows of a tile there, 32 deep, and its vectors of eight f16. */
export const LEFT_IMAGE = { rows: 128, vectors: 512 } as const;

/** What a choice of tilings reckons with beside the product's sizes. */
export interface Operands {
  readonly layout: "rows" | "image";
  /** Whether the adapter multiplies 16 x 8 x 16 with f32 sums. */
  readonly narrow: boolean;
}

/**
 * Every tuning constant, with its reason. Rates are those of an H100 (132 multiprocessors), f16 in, f32 sums.
 */
export const TUNING = {
  /**
   * Tiles of C. `relay` needs right operands as images and all of 48 KiB, and is 10 % faster than `wide`, which holds 128 accumulators a thread, one workgroup a multiprocessor, and reads the least from L2.
   * Of `medium` two fit, which evens out the last wave; alone or in pairs they are 15 % slower. `small` serves few
   * tokens, narrow products and matrix units other than 16 x 16 x 16, where 64 x 64 a subgroup would not stay in
   * registers.
   */
  tilings: [
    {
      name: "relay",
      rows: 128,
      columns: 256,
      subgroupRows: 64,
      subgroupColumns: 64,
      efficiency: 1.1,
      relay: true,
    },
    { name: "wide", rows: 128, columns: 256, subgroupRows: 64, subgroupColumns: 64, efficiency: 1 },
    { name: "medium", rows: 128, columns: 128, subgroupRows: 64, subgroupColumns: 64, efficiency: 0.85 },
    { name: "small", rows: 64, columns: 64, subgroupRows: 32, subgroupColumns: 32, efficiency: 0.5 },
  ] as readonly Tiling[],
  /** Multiprocessors assumed when waves are counted; WebGPU does not tell. */
  multiprocessors: 132,
  /** Depth of a tile in workgroup memory: deeper does not fit 48 KiB, shallower makes 32-byte global loads. */
  depth: 32,
  /** Extra 16-byte units a tile row: an odd stride is free of bank conflicts (0, 2 and 4 cost 1.3 to 3.3 times). */
  pad: 1,
  /** Row tiles walked together so that their operands stay in L2: 4 to 12 are equal, 16 up to 8 % worse. */
  group: 8,
  /**
   * What the choice of a tiling and of a split tail reckons with: seconds per multiply-accumulate of one multiprocessor
   * (half of 330 TFLOP/s over 132), seconds per byte of partial sums (written and read), seconds of two more launches,
   * into how many parts at most, and what share of the whole a split must save.
   */
  cost: { perMultiply: 8e-13, perByte: 6e-13, launch: 6e-6, parts: 8, worth: 0.02 },
  /** Depth must be a multiple of two tiles: two register sets of prefetched tiles take turns. */
  depthMultiple: 64,
  /** Products with a low-rank side: tile width (ranks are padded to it), depth. */
  thin: { columns: 64, depth: 64 },
  /**
   * Left operands are packed as images from so many rows, of such a depth, for products of so many columns together: packing
   * moves 4 bytes an element, and a product gains 2.3 % by it, which is as much at 9,800 columns (fewer rows were not measured).
   */
  packLeft: { rows: 4096, depth: 2048, columns: 12288 },
} as const;

/** Ranks are padded with zeros to a multiple of this. */
export const RANK_MULTIPLE: number = TUNING.thin.columns;

/** A rank as kernels see it. */
export function paddedRank(rank: number): number {
  return Math.ceil(rank / RANK_MULTIPLE) * RANK_MULTIPLE;
}

/**
 * The matrix unit to build on: of the f16 x f16 -> f32 shapes that the adapter reports with sides of 8 or 16, the
 * largest. Undefined where there is none.
 */
export function matrixUnit(capabilities: Capabilities): MatrixUnit | undefined {
  const side = (n: number): boolean => n === 8 || n === 16;
  const lanes = capabilities.subgroupSize;
  const [best] = capabilities.matrixShapes
    .filter((s) => s.component === "f16" && s.result === "f32" && side(s.m) && side(s.n) && side(s.k))
    .toSorted((a, b) => b.m * b.n * b.k - a.m * a.n * a.k);
  if (best === undefined || lanes < 8 || lanes > 32) return undefined;
  return { m: best.m, n: best.n, k: best.k, lanes };
}

/** Limits of a device that a tiling must respect. */
export type TilingLimits = Pick<
  GPUSupportedLimits,
  "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize"
>;

/** Invocations of a workgroup. */
export function threadsOf(unit: MatrixUnit, tiling: Tiling): number {
  return (tiling.rows / tiling.subgroupRows) * (tiling.columns / tiling.subgroupColumns) * unit.lanes;
}

/** Sizes of the workgroup tiles, in 16-byte units (eight f16). */
export function tileUnits(unit: MatrixUnit, tiling: Tiling): { a: number; b: number; stage: number; total: number } {
  if (tiling.relay) {
    const { a, b, total } = relayLines(tiling);
    return { a, b, stage: stageUnits(unit, tiling.subgroupColumns), total };
  }
  const a = tiling.rows * (TUNING.depth / 8 + TUNING.pad);
  const b = TUNING.depth * (tiling.columns / 8 + TUNING.pad);
  const subgroups = threadsOf(unit, tiling) / unit.lanes;
  const stage = stageUnits(unit, tiling.subgroupColumns);
  return { a, b, stage, total: Math.max(a + b, subgroups * stage) };
}

/**
 * How two tiles of `relay` lie in workgroup memory, in 16-byte units: sixteen lines, `stride` apart, each with a line of A
 * (`a` units) and of B (`b`) of both tiles; the last unit of each line lies from `last` on.
 */
export function relayLines({ rows, columns }: Pick<Tiling, "rows" | "columns">): {
  readonly a: number;
  readonly b: number;
  readonly tile: number;
  readonly stride: number;
  readonly last: number;
  readonly total: number;
} {
  const [a, b] = [rows / 4, columns / 4];
  const stride = 2 * (a + b) - 1;
  return { a, b, tile: a + b, stride, last: 16 * stride, total: 16 * (stride + 1) };
}

/** 16-byte units in which a subgroup lays out m rows of f32 results before they are packed. */
export function stageUnits(unit: MatrixUnit, columns: number): number {
  return unit.m * stageStride(columns);
}

/** Row stride of that layout: two units more than needed keep the stores free of bank conflicts. */
export function stageStride(columns: number): number {
  return columns / 4 + 2;
}

function fits(unit: MatrixUnit, tiling: Tiling, columns: number, limits: TilingLimits, operands: Operands): boolean {
  if (columns % tiling.columns !== 0) return false;
  if (tiling.relay && !(operands.layout === "image" && operands.narrow && unit.lanes === 32)) return false;
  if (tiling.name !== "small" && (unit.m !== 16 || unit.n !== 16 || unit.k !== 16)) return false;
  const threads = threadsOf(unit, tiling);
  return (
    threads <= limits.maxComputeInvocationsPerWorkgroup &&
    tileUnits(unit, tiling).total * 16 <= limits.maxComputeWorkgroupStorageSize &&
    (tiling.rows * (TUNING.depth / 8)) % threads === 0
  );
}

/** How a product's tiles are launched: `full` whole ones, then `tail` ones that `parts` workgroups each share. */
export interface TilePlan {
  readonly full: number;
  readonly tail: number;
  readonly parts: number;
}

/**
 * Whether to split the last wave, and in how many parts. Where the tiles left over fill few multiprocessors, splitting
 * them along the depth shortens the wave, at the price of partial sums that go through memory. Only for tilings that
 * fill a multiprocessor.
 * @param depths of the terms
 * @returns the plan, and the seconds it is expected to take
 */
export function planTiles(tiling: Tiling, tiles: number, depths: readonly number[]): TilePlan & { seconds: number } {
  const { perMultiply, perByte, launch, parts: most, worth } = TUNING.cost;
  const area = tiling.rows * tiling.columns;
  const tile = (area * depths.reduce((sum, depth) => sum + depth, 0) * perMultiply) / tiling.efficiency;
  const rounds = (workgroups: number): number => Math.ceil(workgroups / TUNING.multiprocessors);
  const whole = { full: tiles, tail: 0, parts: 1, seconds: rounds(tiles) * tile };
  const tail = tiles % TUNING.multiprocessors;
  if ((tiling.name !== "wide" && !tiling.relay) || tail === 0) return whole;
  const full = tiles - tail;
  let best = whole;
  for (let parts = 2; parts <= most && depths.some((depth) => depth >= parts * TUNING.depthMultiple); parts++) {
    const split = (rounds(tail * parts) / parts) * tile + tail * parts * area * 8 * perByte + launch;
    const seconds = rounds(full) * tile + split;
    if (seconds < best.seconds) best = { full, tail, parts, seconds };
  }
  return best.seconds < (1 - worth) * whole.seconds ? best : whole;
}

const ROWS: Operands = { layout: "rows", narrow: false };

/**
 * Whether `relay` makes products of these depths, the longest first, in so many parts: where others follow, the first one
 * must have two pairs of tiles in each part.
 */
export function relayServes(depths: readonly number[], parts = 1): boolean {
  return depths.length === 1 || Math.max(...depths) >= 2 * parts * TUNING.depthMultiple;
}

/** Whether a device has room for `relay` tiles, whatever the product. */
export function relayFits(unit: MatrixUnit, limits: TilingLimits, columns: number, narrow: boolean): boolean {
  const tiling = TUNING.tilings.find(({ relay }) => relay === true)!;
  return fits(unit, tiling, columns, limits, { layout: "image", narrow });
}

/**
 * The tiling expected to be fastest for `rows` x `columns` results of terms of the given depths. Undefined where none
 * fits.
 */
export function chooseTiling(
  unit: MatrixUnit,
  limits: TilingLimits,
  rows: number,
  columns: number,
  depths: readonly number[],
  operands: Operands = ROWS,
): Tiling | undefined {
  let best: { tiling: Tiling; seconds: number } | undefined;
  for (const tiling of TUNING.tilings) {
    if (!fits(unit, tiling, columns, limits, operands)) continue;
    if (tiling.relay && !relayServes(depths)) continue;
    const { seconds } = planTiles(tiling, tilesOf(tiling, rows, columns), depths);
    if (best === undefined || seconds < best.seconds) best = { tiling, seconds };
  }
  return best?.tiling;
}

/** Tiles of `rows` x `columns` results. */
export function tilesOf(tiling: Tiling, rows: number, columns: number): number {
  return Math.ceil(rows / tiling.rows) * (columns / tiling.columns);
}
