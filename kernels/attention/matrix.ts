import { LONG_SAMPLE } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT } from "../../core/device/kernel.ts";
import type { KernelCost } from "../../core/device/profile.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { attentionWork } from "./flops.ts";
import { matrixKeys, matrixQueries, type Wanted } from "./matrix-backward.ts";
import { matrixForward } from "./matrix-forward.ts";
import { type HeadShape, MATRIX_TUNING, type MatrixPart, type MatrixTuning, planOf, SIDE } from "./matrix-plan.ts";
import {
  matrixSpilledQueries,
  type SPILL_UNIFORMS,
  spilledBlocks,
  type SpillTuning,
  spillTuning,
} from "./matrix-spill.ts";
import type { AttentionOptions, AttentionSaved } from "./options.ts";

/** Tuning of each kernel; the default is what the head size gets. */
export type MatrixTunings = Readonly<Partial<Record<MatrixPart, MatrixTuning>>> & {
  readonly spill?: SpillTuning;
  readonly spillRoom?: SpillRoom;
};

const NO_WINDOW = 0xffffffff;

const shareOf = ({ flops = 0 }: KernelCost, share: number): KernelCost => ({ flops: flops * share });

function tuningOf(part: MatrixPart, shape: HeadShape, tunings: MatrixTunings): MatrixTuning {
  const tuning = tunings[part] ?? MATRIX_TUNING[part][shape.headDim as 128 | 256];
  // Groups of an odd number of heads do not share tiles in twos.
  return (shape.heads / shape.kvHeads) % tuning.packed === 0 ? tuning : { ...tuning, packed: 1 };
}

function run(
  gpu: Gpu,
  part: MatrixPart,
  tensors: readonly Tensor[],
  options: AttentionOptions,
  tunings: MatrixTunings,
  wanted: Wanted = "both",
  spill?: Readonly<Record<keyof typeof SPILL_UNIFORMS, number>>,
): void {
  const { heads, kvHeads, headDim, scale, softcap } = options;
  const shape = { heads, kvHeads, headDim };
  const tuning = tuningOf(part, shape, tunings);
  const plan = planOf(part, shape, tuning);
  const capped = softcap > 0;
  const key = `attention/matrix/${part}/${wanted}/${heads}/${kvHeads}/${headDim}/${capped}/${Object.values(tuning).join()}`;
  const kernel = gpu.kernel(
    key,
    () => {
      if (part === "forward") return matrixForward(plan, capped);
      return part === "queries" ? matrixQueries(plan, capped) : matrixKeys(plan, capped, wanted);
    },
    LONG_TEXT,
  );
  const rows = options.segments.shape[0]!;
  const tiles = Math.ceil(rows / plan.tileRows);
  const window = options.window === 0 ? NO_WINDOW : options.window;
  const inner = capped ? scale / softcap : 1;
  const outer = (capped ? softcap : scale) * Math.LOG2E;
  const kvCount = spill?.kv_count ?? kvHeads;
  const groups = tiles * (part === "keys" ? kvCount : heads / plan.packed);
  const ofKeys = wanted === "keys" || wanted === "values" ? wanted : "keysAndValues";
  const work = shareOf(attentionWork(options, part === "keys" ? ofKeys : part), kvCount / kvHeads);
  const uniforms = { rows, tiles, window, inner, outer, scale, ...spill };
  gpu.dispatch(kernel, tensors, uniforms, gridFor(groups), work);
}

/** `attentionForward` on subgroup matrices, for layers that `matrixServes`. */
export function runMatrixForward(
  gpu: Gpu,
  { q, k, v, out, lse }: Omit<AttentionSaved, "dOut">,
  options: AttentionOptions,
  tunings: MatrixTunings = {},
): void {
  run(gpu, "forward", [q, k, v, options.segments, out, lse], options, tunings);
}

/** When gradients of scores are spilled. */
export interface SpillRoom {
  /** Bytes of scratch that they may take at a time: kv heads take turns in it. 0 recomputes them. */
  readonly bytes: number;
  /** Workgroups of a turn, where there are several, below which they are recomputed. */
  readonly workgroups: number;
}

/** On an H200 turns of 128 workgroups lose, turns of 384 win. */
const SPILL_ROOM: SpillRoom = { bytes: 2 ** 29, workgroups: 384 };

/**
 * How many kv heads spill the gradients of their scores at a time; 0 where too few have room to fill a GPU, or the device has
 * too few bindings.
 */
export function spilledHeads(
  { device }: Pick<Gpu, "device">,
  { heads, kvHeads }: HeadShape,
  keyTiles: number,
  bytesPerHead: number,
  room: SpillRoom = SPILL_ROOM,
): number {
  if (device.limits.maxStorageBuffersPerShaderStage < 10) return 0;
  const bytes = Math.min(room.bytes, device.limits.maxStorageBufferBindingSize);
  const fitting = Math.min(kvHeads, Math.floor(bytes / (bytesPerHead * (heads / kvHeads))));
  if (fitting === kvHeads) return kvHeads;
  // Turns of the same size.
  const count = fitting === 0 ? 0 : Math.ceil(kvHeads / Math.ceil(kvHeads / fitting));
  return count * keyTiles < room.workgroups ? 0 : count;
}

/**
 * All three gradients; the scores' own go through memory, so that five products are done, not seven. False, and nothing
 * done, where they find no room.
 */
function runSpilled(
  gpu: Gpu,
  read: readonly Tensor[],
  { queries, keys, values }: Readonly<Record<"queries" | "keys" | "values", Tensor>>,
  options: AttentionOptions,
  tunings: MatrixTunings,
): boolean {
  const { heads, kvHeads, headDim, scale, segments, maxSeqlen } = options;
  // Room for every pair of a key and a query that may see it grows with the square of a sample.
  if (maxSeqlen > LONG_SAMPLE) return false;
  const shape = { heads, kvHeads, headDim };
  const tuning = tuningOf("keys", shape, tunings);
  const { tileRows } = planOf("keys", shape, tuning);
  const rows = segments.shape[0]!;
  const keyTiles = Math.ceil(rows / tileRows);
  const blocks = spilledBlocks(tileRows, maxSeqlen, options.window);
  const perHead = keyTiles * blocks * tileRows * SIDE;
  const most = spilledHeads(gpu, shape, keyTiles, perHead * 2, tunings.spillRoom);
  if (most === 0) return false;
  const group = heads / kvHeads;
  const [, k] = read as readonly [Tensor, Tensor];
  const how = tunings.spill ?? spillTuning(headDim);
  const key = `attention/matrix/spilled-queries/${heads}/${kvHeads}/${headDim}/${tileRows}/${Object.values(how).join()}`;
  const kernel = gpu.kernel(key, () => matrixSpilledQueries(shape, tileRows, how), LONG_TEXT);
  const window = options.window === 0 ? NO_WINDOW : options.window;
  const tiles = Math.ceil(rows / how.queries);
  for (let first = 0; first < kvHeads; first += most) {
    const count = Math.min(most, kvHeads - first);
    const spill = { kv_first: first, kv_count: count, blocks };
    const gradients = gpu.alloc([count * group, perHead], "f16", "gradients of scores", "scratch");
    run(gpu, "keys", [...read, keys, values, gradients], options, tunings, "spilled", spill);
    gpu.dispatch(
      kernel,
      [gradients, k, segments, queries],
      { rows, tiles, key_tiles: keyTiles, window, scale, ...spill },
      gridFor(tiles * count * group * how.split),
      shareOf(attentionWork(options, "spilledQueries"), count / kvHeads),
    );
    gpu.free(gradients);
  }
  return true;
}

/** Gradients on subgroup matrices; those of keys and values come from one kernel where both are given. */
export function runMatrixBackward(
  gpu: Gpu,
  { q, k, v, lse, dOut }: Omit<AttentionSaved, "out">,
  delta: Tensor,
  gradients: Readonly<Partial<Record<"queries" | "keys" | "values", Tensor>>>,
  options: AttentionOptions,
  tunings: MatrixTunings = {},
): void {
  const read = [q, k, v, options.segments, dOut, lse, delta];
  const { queries, keys, values } = gradients;
  if (queries !== undefined && keys !== undefined && values !== undefined) {
    if (runSpilled(gpu, read, { queries, keys, values }, options, tunings)) return;
  }
  if (queries !== undefined) run(gpu, "queries", [...read, queries], options, tunings);
  if (keys !== undefined && values !== undefined) run(gpu, "keys", [...read, keys, values], options, tunings);
  else if (keys !== undefined) run(gpu, "keys", [...read, keys], options, tunings, "keys");
  else if (values !== undefined) run(gpu, "keys", [...read, values], options, tunings, "values");
}
