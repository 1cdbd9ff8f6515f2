import type { Gpu } from "../../core/device/gpu.ts";

/** Which of the three kernels on subgroup matrices. */
export type MatrixPart = "forward" | "queries" | "keys";

/** How such a kernel divides its work; everything else follows from it and the head size. */
export interface MatrixTuning {
  /** Subgroups of 32 to a workgroup. */
  readonly warps: number;
  /** Subgroups that share the same rows, each with a part of head_dim; they add up their parts of q.k. */
  readonly split: 1 | 2;
  /** Blocks of 16 rows that a subgroup holds in registers. */
  readonly rowBlocks: 1 | 2;
  /** Rows of the other side (keys, or queries where keys are held) that pass by in one step. */
  readonly columns: 16 | 32;
  /** Heads of one kv head that share a tile of queries, so that each key is read once for all of them. */
  readonly packed: number;
  /** Of the gradients: read the next step's rows into registers while this one computes. Forward always does. */
  readonly prefetch?: boolean;
}

/** Model shape of an attention layer. */
export interface HeadShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Lanes of a subgroup. */
export const LANES = 32;
/** Side of a matrix, rows of a block. */
export const SIDE = 16;

/**
 * Sizes of a kernel, in the units of the arrays they index: a `vector` is 16 bytes (8 f16 or 4 f32).
 */
export interface MatrixPlan extends MatrixTuning, HeadShape {
  readonly threads: number;
  /** Groups of `split` subgroups with the same rows. */
  readonly teams: number;
  /** Rows that a team holds. */
  readonly teamRows: number;
  /** Row blocks of a tile. */
  readonly tileBlocks: number;
  /** Packed rows that a tile covers. */
  readonly tileRows: number;
  /** Blocks of 16 along a subgroup's part of head_dim. */
  readonly depth: number;
  /** Vectors of one head's row. */
  readonly rowVectors: number;
  /** Vectors from row to row of a tile in workgroup memory: odd, so that eight rows lie in different banks. */
  readonly tileStride: number;
  /** Vectors from row to row of scores, of which four rows at a time are stored without bank conflicts. */
  readonly scoreStride: number;
  /** Half vectors from row to row of weights: twice an odd number, so that rows lie in different banks. */
  readonly weightStride: number;
  /** Lanes that share a row of scores, and f32 vectors of it to each. */
  readonly sharers: number;
  readonly quads: number;
  /** Matrices of a block of held rows that pass through a subgroup's part of the scores at a time. */
  readonly stagedDepth: number;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
}

/** Sizes that follow from a tuning. @throws RangeError where it does not fit the shape */
export function planOf(part: MatrixPart, shape: HeadShape, tuning: MatrixTuning): MatrixPlan {
  const { warps, split, rowBlocks, columns } = tuning;
  const packed = part === "keys" ? 1 : tuning.packed;
  const threads = warps * LANES;
  const teams = warps / split;
  const teamRows = rowBlocks * SIDE;
  const tileBlocks = teams * rowBlocks;
  const depth = shape.headDim / SIDE / split;
  const rowVectors = shape.headDim / 8;
  const tileStride = rowVectors + 1;
  const scoreStride = columns / 4 + 2;
  const weightStride = columns / 4 + 2;
  // Rows of an odd number of vectors lie in different banks.
  const stagedDepth = [8, 4, 2, 1].find((n) => depth % n === 0 && SIDE * (2 * n + 1) <= teamRows * scoreStride)!;
  const sharers = (2 * split) / rowBlocks;
  const quads = columns / 4 / sharers;
  const tile = columns * tileStride * 16 * 2;
  const scores = warps * teamRows * scoreStride * 16 * (part === "forward" ? 1 : 2);
  const weights = teams * teamRows * weightStride * 8 * (part === "keys" ? 2 : 1);
  const rest = part === "keys" ? columns * 8 : teams * teamRows * 4 + 4;
  const whole = [teams, depth, quads, tileBlocks / packed, (columns * rowVectors) / threads, threads / rowVectors];
  if (whole.some((n) => !Number.isInteger(n)) || (shape.heads / shape.kvHeads) % packed !== 0) {
    throw new RangeError(`attention ${part}: ${JSON.stringify(tuning)} does not divide ${JSON.stringify(shape)}`);
  }
  return {
    ...tuning,
    ...shape,
    packed,
    threads,
    teams,
    teamRows,
    tileBlocks,
    tileRows: (tileBlocks / packed) * SIDE,
    depth,
    rowVectors,
    tileStride,
    scoreStride,
    weightStride,
    sharers,
    quads,
    stagedDepth,
    workgroupBytes: tile + scores + weights + rest,
  };
}

/** Tunings by kernel and head size; a group of an odd number of heads packs none. */
export const MATRIX_TUNING: Readonly<Record<MatrixPart, Readonly<Record<128 | 256, MatrixTuning>>>> = {
  forward: {
    128: { warps: 8, split: 1, rowBlocks: 1, columns: 32, packed: 2 },
    256: { warps: 8, split: 2, rowBlocks: 2, columns: 16, packed: 2 },
  },
  queries: {
    128: { warps: 4, split: 1, rowBlocks: 1, columns: 16, packed: 2, prefetch: true },
    256: { warps: 8, split: 2, rowBlocks: 1, columns: 16, packed: 2, prefetch: true },
  },
  keys: {
    128: { warps: 8, split: 1, rowBlocks: 1, columns: 16, packed: 1, prefetch: false },
    256: { warps: 8, split: 2, rowBlocks: 1, columns: 16, packed: 1, prefetch: false },
  },
};

/** Whether the kernels on subgroup matrices serve this layer: 16 x 16 x 16 in f32, 32 lanes, head_dim 128 or 256. */
export function matrixServes(gpu: Gpu, { heads, kvHeads, headDim }: HeadShape, rows: number): boolean {
  if (gpu.tier !== "matrix" || rows < SIDE || (headDim !== 128 && headDim !== 256) || heads % kvHeads !== 0)
    return false;
  const { matrixShapes, subgroupSize } = gpu.info.capabilities;
  const { maxComputeWorkgroupStorageSize } = gpu.device.limits;
  return (
    subgroupSize === LANES &&
    maxComputeWorkgroupStorageSize >= 48 * 1024 &&
    matrixShapes.some(
      (s) => s.m === SIDE && s.n === SIDE && s.k === SIDE && s.component === "f16" && s.result === "f32",
    )
  );
}
