import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { dropoutValues, type MemberDropout } from "./dropout-text.ts";
import { addToGradient, sumToHalf } from "./epilogue.ts";
import { MASKED_TILE, maskedSpec } from "./masked.ts";
import { largeTilesFit, maskedRun, type ThinPlan, thinPlan, tokenSumPlan } from "./skinny-plan.ts";
import { thinSpec, tokenSumSpec } from "./skinny.ts";
import { unitKey, unitOf } from "./support.ts";
import { RANK_MULTIPLE, TUNING } from "./tiling.ts";

/**
 * One of the linears that share an input. Their padded ranks (`width`) lie side by side in the tensors of the group:
 * U and dU [N, sum of widths], aT [in, sum of widths], a [sum of widths, in].
 */
export interface LoraMember extends MemberDropout {
  readonly width: number;
}

/** What masks are drawn from; leave it out where nothing is dropped (evaluation, p = 0). */
export interface LoraDropout {
  /** [N] u32 (`batch.rowKeys`). */
  readonly rowKeys: Tensor;
  readonly seed: number;
  /** In the order of their columns. */
  readonly members: readonly LoraMember[];
}

function widthsOf(dropout: LoraDropout | undefined, columns: number, rows: number): readonly number[] | undefined {
  if (dropout === undefined) return undefined;
  const widths = dropout.members.map((m) => m.width);
  const sum = widths.reduce((a, b) => a + b, 0);
  if (sum !== columns || widths.some((w) => w % RANK_MULTIPLE !== 0)) {
    throw new RangeError(
      `LoRA members of widths ${widths.join(", ")} do not fill ${columns} columns in multiples of ${RANK_MULTIPLE}`,
    );
  }
  expectTensor(dropout.rowKeys, [rows], "u32");
  return widths;
}

/** Tuning of a product, for benchmarks; by default what `skinny-plan.ts` says. */
export type ThinOptions = Partial<ThinPlan>;

/** Columns `column …` of `out` [N, …] f16 = a [N,K] (dropped) * b [K,r], split over K where N alone makes too few workgroups. */
function thin(
  gpu: Gpu,
  a: Tensor,
  b: Tensor,
  out: Tensor,
  column: number,
  dropout: LoraDropout | undefined,
  options: ThinOptions,
): void {
  const [rows, depth] = matrixShape(a);
  const columns = b.shape[1]!;
  expectTensor(a, [-1, -1], "f16");
  expectTensor(b, [depth, -1], "f16");
  expectTensor(out, [rows, -1], "f16");
  const stride = out.shape[1]!;
  if (depth % 64 !== 0 || columns % RANK_MULTIPLE !== 0 || column % RANK_MULTIPLE !== 0 || column + columns > stride) {
    throw new RangeError(
      `${columns} columns of ${b.label} [${b.shape.join(",")}] cannot go to column ${column} of ${out.label} [${out.shape.join(",")}]`,
    );
  }
  const members = widthsOf(dropout, columns, rows);
  const unit = unitOf(gpu);
  const plan = thinPlan(rows, columns, depth, largeTilesFit(unit, gpu.device.limits));
  const { tileRows, splits } = { ...plan, ...options };
  const tiles = Math.ceil(rows / tileRows) * (columns / TUNING.thin.columns);
  if (depth % (splits * TUNING.thin.depth) !== 0)
    throw new RangeError(`${a.label}: a depth of ${depth} cannot be split into ${splits}`);
  const half = splits === 1;
  const key = `gemm/thin/${unitKey(unit)}/${tileRows}/${half ? "half" : "partial"}/${members?.join("+") ?? "plain"}`;
  const kernel = gpu.kernel(key, () => thinSpec(unit, { tileRows, half, members }), LONG_TEXT);
  const uniforms = {
    rows,
    depth: depth / 8,
    columns: columns / 8,
    splits,
    part: depth / splits,
    ...(half ? { stride: stride / 8, column: column / 8 } : {}),
    ...(dropout === undefined ? {} : dropoutValues(dropout.seed, dropout.members)),
  };
  const grid = gridFor(tiles * splits);
  const keys = dropout === undefined ? [] : [dropout.rowKeys];
  const work = { flops: 2 * rows * depth * columns };
  if (half) {
    gpu.dispatch(kernel, [a, b, out, ...keys], uniforms, grid, work);
    return;
  }
  const padded = Math.ceil(rows / tileRows) * tileRows;
  const partial = gpu.alloc([splits, padded, columns], "f32", `partial ${out.label}`, "scratch");
  gpu.dispatch(kernel, [a, b, partial, ...keys], uniforms, grid, work);
  sumToHalf(gpu, partial, out, rows, column);
  gpu.free(partial);
}

/**
 * `u [N,R] f16 = dropout(x [N,in]) * aT [in,R]` for all linears that share x, each with a mask of its own.
 * @param aT A of every member, transposed, padded and (under dropout) divided by 1 - p
 */
export function loraDown(
  gpu: Gpu,
  x: Tensor,
  aT: Tensor,
  u: Tensor,
  dropout?: LoraDropout,
  options: ThinOptions = {},
): void {
  expectTensor(u, [x.shape[0]!, aT.shape[1]!], "f16");
  thin(gpu, x, aT, u, 0, dropout, options);
}

/**
 * Columns `column …` of `dU [N,R] f16 = dY [N,out] * b [out,r]`.
 * @param b the scaled, padded copy of B as it lies
 */
export function loraRankGradient(
  gpu: Gpu,
  dY: Tensor,
  b: Tensor,
  dU: Tensor,
  column = 0,
  options: ThinOptions = {},
): void {
  thin(gpu, dY, b, dU, column, undefined, options);
}

/**
 * `dX [N,in] f16 = sum over members of mask_i * (dU_i [N,r_i] * a_i [r_i,in])`.
 * @param a A of every member as it lies, padded, divided by 1 - p
 */
export function loraMaskedGradient(gpu: Gpu, dU: Tensor, a: Tensor, dX: Tensor, dropout: LoraDropout): void {
  const [rows, columns] = matrixShape(dX);
  expectTensor(dX, [-1, -1], "f16");
  expectTensor(dU, [rows, -1], "f16");
  expectTensor(a, [dU.shape[1]!, columns], "f16");
  const members = widthsOf(dropout, dU.shape[1]!, rows)!;
  if (columns % 64 !== 0) throw new RangeError(`${dX.label}: ${columns} columns are no multiple of 64`);
  const unit = unitOf(gpu);
  const key = `gemm/masked/${unitKey(unit)}/${members.join("+")}`;
  const kernel = gpu.kernel(key, () => maskedSpec(unit, members), LONG_TEXT);
  const [down, across] = [Math.ceil(rows / MASKED_TILE.rows), columns / MASKED_TILE.columns];
  const run = maskedRun(down * across);
  gpu.dispatch(
    kernel,
    [dU, a, dropout.rowKeys, dX],
    { rows, columns: columns / 8, run, ...dropoutValues(dropout.seed, dropout.members) },
    gridFor(down * Math.ceil(across / run)),
    { flops: 2 * rows * dU.shape[1]! * columns },
  );
}

interface TokenSum {
  readonly columns: number;
  readonly column: number;
  readonly transposed: boolean;
  readonly dropout: LoraDropout | undefined;
  readonly options: ThinOptions;
}

/** Partial sums over tokens of a^T [F,N] * b [N,columns]; the caller frees them. */
function tokenSum(gpu: Gpu, a: Tensor, b: Tensor, { columns, column, transposed, dropout, options }: TokenSum): Tensor {
  const [rows, features] = matrixShape(a);
  expectTensor(a, [-1, -1], "f16");
  expectTensor(b, [rows, -1], "f16");
  const stride = b.shape[1]!;
  if (
    features % 64 !== 0 ||
    columns % RANK_MULTIPLE !== 0 ||
    column % RANK_MULTIPLE !== 0 ||
    column + columns > stride
  ) {
    throw new RangeError(
      `${columns} columns from ${column} on of ${b.label} [${b.shape.join(",")}] cannot meet ${a.label} [${a.shape.join(",")}]`,
    );
  }
  const members = widthsOf(dropout, columns, rows);
  const unit = unitOf(gpu);
  const plan = { ...tokenSumPlan(features, columns, largeTilesFit(unit, gpu.device.limits)), ...options };
  const tileFeatures = plan.tileRows;
  const key = `gemm/token-sum/${unitKey(unit)}/${tileFeatures}/${transposed ? "transposed" : "straight"}/${members?.join("+") ?? "plain"}`;
  const kernel = gpu.kernel(key, () => tokenSumSpec(unit, { tileFeatures, transposed, members }), LONG_TEXT);
  const tiles = (features / tileFeatures) * (columns / TUNING.thin.columns);
  const steps = Math.ceil(rows / TUNING.thin.depth);
  const chunkSteps = Math.ceil(steps / Math.min(steps, plan.splits));
  const count = Math.ceil(steps / chunkSteps);
  const partial = gpu.alloc(
    transposed ? [count, columns, features] : [count, features, columns],
    "f32",
    `partial ${a.label}`,
    "scratch",
  );
  gpu.dispatch(
    kernel,
    [a, b, partial, ...(dropout === undefined ? [] : [dropout.rowKeys])],
    {
      rows,
      features: features / 8,
      columns: columns / 8,
      column: column / 8,
      stride: stride / 8,
      chunk: chunkSteps * TUNING.thin.depth,
      splits: count,
      ...(dropout === undefined ? {} : dropoutValues(dropout.seed, dropout.members)),
    },
    gridFor(tiles * count),
    { flops: 2 * rows * features * columns },
  );
  return partial;
}

/** `grad [out,R] f32 += scale * dY [N,out]^T * u [N,r]`, r columns of `u` from `column` on; the same sum every time. */
export function loraGradientB(
  gpu: Gpu,
  dY: Tensor,
  u: Tensor,
  grad: Tensor,
  {
    scale,
    column = 0,
    width,
    ...options
  }: ThinOptions & { readonly scale: number; readonly column?: number; readonly width: number },
): void {
  expectTensor(grad, [dY.shape[1]!, -1], "f32");
  if (grad.shape[1]! > width) throw new RangeError(`${grad.label} [${grad.shape.join(",")}]: rank beyond ${width}`);
  const partial = tokenSum(gpu, dY, u, { columns: width, column, transposed: false, dropout: undefined, options });
  addToGradient(gpu, partial, grad, scale);
  gpu.free(partial);
}

/**
 * `grad_i [R_i,in] f32 += scale_i * dU_i [N,r_i]^T * dropout_i(x [N,in])` for all linears that share x.
 * @param grads one a member, in the order of their columns; scale 1 / (1 - p)
 */
export function loraGradientA(
  gpu: Gpu,
  x: Tensor,
  dU: Tensor,
  grads: readonly { readonly grad: Tensor; readonly width: number; readonly scale: number }[],
  dropout?: LoraDropout,
  options: ThinOptions = {},
): void {
  const columns = grads.reduce((sum, { width }) => sum + width, 0);
  expectTensor(dU, [x.shape[0]!, columns], "f16");
  for (const { grad, width } of grads) {
    expectTensor(grad, [-1, x.shape[1]!], "f32");
    if (grad.shape[0]! > width) throw new RangeError(`${grad.label} [${grad.shape.join(",")}]: rank beyond ${width}`);
  }
  const partial = tokenSum(gpu, x, dU, { columns, column: 0, transposed: true, dropout, options });
  let firstRow = 0;
  for (const { grad, width, scale } of grads) {
    addToGradient(gpu, partial, grad, scale, firstRow);
    firstRow += width;
  }
  gpu.free(partial);
}
