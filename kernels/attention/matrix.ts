import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { attentionWork } from "./flops.ts";
import { matrixKeys, matrixQueries, type Wanted } from "./matrix-backward.ts";
import { matrixForward } from "./matrix-forward.ts";
import { type HeadShape, MATRIX_TUNING, type MatrixPart, type MatrixTuning, planOf } from "./matrix-plan.ts";
import type { AttentionOptions, AttentionSaved } from "./options.ts";

/** Tuning of each kernel; the default is what the head size gets. */
export type MatrixTunings = Readonly<Partial<Record<MatrixPart, MatrixTuning>>>;

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
): void {
  const { heads, kvHeads, headDim, scale, softcap } = options;
  const shape = { heads, kvHeads, headDim };
  const tuning = tuningOf(part, shape, tunings);
  const plan = planOf(part, shape, tuning);
  const capped = softcap > 0;
  const key = `attention/matrix/${part}/${wanted}/${heads}/${kvHeads}/${headDim}/${capped}/${Object.values(tuning).join()}`;
  const kernel = gpu.kernel(key, () => {
    if (part === "forward") return matrixForward(plan, capped);
    return part === "queries" ? matrixQueries(plan, capped) : matrixKeys(plan, capped, wanted);
  });
  const rows = options.segments.shape[0]!;
  const tiles = Math.ceil(rows / plan.tileRows);
  const window = options.window === 0 ? 0xffffffff : options.window;
  const inner = capped ? scale / softcap : 1;
  const outer = (capped ? softcap : scale) * Math.LOG2E;
  const groups = tiles * (part === "keys" ? kvHeads : heads / plan.packed);
  const work = attentionWork(options, part === "keys" ? (wanted === "both" ? "keysAndValues" : wanted) : part);
  const uniforms = { rows, tiles, window, inner, outer, scale };
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
  if (queries !== undefined) run(gpu, "queries", [...read, queries], options, tunings);
  if (keys !== undefined && values !== undefined) run(gpu, "keys", [...read, keys, values], options, tunings);
  else if (keys !== undefined) run(gpu, "keys", [...read, keys], options, tunings, "keys");
  else if (values !== undefined) run(gpu, "keys", [...read, values], options, tunings, "values");
}
