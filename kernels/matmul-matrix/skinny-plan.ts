/**
 * How products with a low-rank side are cut. They are bound by what passes from L2 to the multiprocessors, and by waves: large
 * tiles read their narrow operand least, and one even wave of workgroups is faster than one and a bit. Figures: an H200,
 * 8192 tokens, rank 64 (docs/performance.md).
 */
import type { Gpu } from "../../core/device/gpu.ts";
import type { TileRows } from "./skinny.ts";
import { type MatrixUnit, TUNING } from "./tiling.ts";

/** Rows (or features) of a tile, and parts of a long sum. */
export interface ThinPlan {
  readonly tileRows: TileRows;
  readonly splits: number;
}

const { multiprocessors } = TUNING;
/** Most parts that a long sum is split into; more would write more partial sums than it reads. */
const SPLITS = 8;
/** Large tiles fill a multiprocessor; with fewer of them than this it is faster to make small ones. */
const ENOUGH = 96;
/** Depth of a part below which a large tile does not pay. */
const LARGE_DEPTH = 896;
/** Parts of the tokens above which it does not pay for their sums. */
const LARGE_PARTS = 2;

type Limits = Pick<Gpu["device"]["limits"], "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize">;

/** Whether a device has room for tiles of 256 rows: 16 subgroups and 45 KiB. */
export function largeTilesFit({ lanes }: Pick<MatrixUnit, "lanes">, limits: Limits): boolean {
  return 16 * lanes <= limits.maxComputeInvocationsPerWorkgroup && limits.maxComputeWorkgroupStorageSize >= 46_080;
}

/** `C [rows, columns] = A [rows, depth] * B`: parts are a power of two, of whole tiles of 64. */
export function thinPlan(rows: number, columns: number, depth: number, large: boolean): ThinPlan {
  const { columns: width, depth: step } = TUNING.thin;
  const planOf = (tileRows: TileRows, most: number): ThinPlan & { tiles: number } => {
    const tiles = Math.ceil(rows / tileRows) * (columns / width);
    let splits = 1;
    while (tiles * splits * 2 <= most && splits < SPLITS && depth % (splits * 2 * step) === 0) splits *= 2;
    return { tileRows, splits, tiles };
  };
  const { tiles, ...plan } = planOf(256, multiprocessors);
  const workgroups = tiles * plan.splits;
  const fills = workgroups >= ENOUGH && depth / plan.splits >= LARGE_DEPTH;
  if (large && fills) return plan;
  const { tileRows, splits } = planOf(64, 2 * multiprocessors);
  return { tileRows, splits };
}

/** `C [features, columns]`, summed over tokens; splits are at most. */
export function tokenSumPlan(features: number, columns: number, large: boolean): ThinPlan {
  const tilesOf = (tileRows: TileRows): number => (features / tileRows) * (columns / TUNING.thin.columns);
  const split = (tiles: number, most: number): number => Math.max(1, Math.min(SPLITS, Math.floor(most / tiles)));
  const few = tilesOf(256);
  const parts = split(few, multiprocessors);
  const fills = few * parts >= ENOUGH && few * parts <= multiprocessors;
  if (large && Number.isInteger(few) && fills && parts <= LARGE_PARTS) return { tileRows: 256, splits: parts };
  const tiles = tilesOf(64);
  return { tileRows: 64, splits: split(tiles, (tiles <= multiprocessors ? 2 : 4) * multiprocessors) };
}

/** Tiles that a workgroup of a masked input gradient makes, so that about a thousand workgroups share them. */
export function maskedRun(tiles: number): number {
  return Math.max(1, Math.min(8, Math.floor(tiles / 1024)));
}
