/** Dense products with f32 accumulation, in the three layouts that a low-rank branch needs. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT } from "../../core/device/kernel.ts";
import { isSoftware } from "../../core/device/software.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { type DropoutOptions, dropoutScale, dropoutThreshold } from "../dropout/index.ts";
import { type Layout, matmulSource, matmulUniforms, type SourceOptions, TILE, type Variant } from "./source.ts";
import sumCode from "./sum-splits.wgsl" with { type: "text" };

/** A dropout mask on one operand's elements as they are read, or on the product before it is stored. */
export interface OperandDropout extends DropoutOptions {
  readonly on: "a" | "b" | "c";
}

/** How a product is taken. */
export interface MatmulOptions {
  /** Multiplies the product. Default 1. */
  readonly scale?: number;
  /** Adds to what C holds instead of overwriting it. Default false. */
  readonly accumulate?: boolean;
  /** Inverted dropout; p = 0 is as if absent. */
  readonly dropout?: OperandDropout | undefined;
  /** First column of A that is used (a multiple of 4); the depth is B's. Default 0. */
  readonly aColumn?: number;
  /** First column of C that is written (a multiple of 4). Default 0. */
  readonly cColumn?: number;
  /** For tests: the other variant than the device's. */
  readonly variant?: Variant;
}

/** Software adapters read operands directly; GPUs share tiles. */
export const variantOf = (gpu: Gpu): Variant => (isSoftware(gpu.info.adapter) ? "direct" : "tiled");

type Float = "f32" | "f16";
const FLOATS = ["f32", "f16"] as const satisfies readonly Float[];

interface Sizes {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * C [M,N] (=|+=) scale * A [M,K] B [N,K]^T. A and B are f32 or f16 and are rounded to the tier's operand type as they are
 * read (what autocast does with f32 masters; a driver may leave it out); the sum is f32.
 */
export function matmulNT(gpu: Gpu, a: Tensor, b: Tensor, c: Tensor, options: MatmulOptions = {}): void {
  const [n, k] = matrixShape(b);
  matmul(gpu, "NT", a, b, c, { m: matrixShape(a)[0], n, k }, options);
}

/** C [M,N] (=|+=) scale * A [M,K] B [K,N]; as `matmulNT` otherwise. */
export function matmulNN(gpu: Gpu, a: Tensor, b: Tensor, c: Tensor, options: MatmulOptions = {}): void {
  const [k, n] = matrixShape(b);
  matmul(gpu, "NN", a, b, c, { m: matrixShape(a)[0], n, k }, options);
}

/**
 * C [M,N] (=|+=) scale * A [K,M]^T B [K,N]; as `matmulNT` otherwise. K counts tokens: a long sum is cut into parts of a
 * fixed order, so that equal inputs give equal bits.
 */
export function matmulTN(gpu: Gpu, a: Tensor, b: Tensor, c: Tensor, options: MatmulOptions = {}): void {
  const [k, n] = matrixShape(b);
  matmul(gpu, "TN", a, b, c, { m: matrixShape(a)[1], n, k }, options);
}

function matmul(gpu: Gpu, layout: Layout, a: Tensor, b: Tensor, c: Tensor, sizes: Sizes, options: MatmulOptions): void {
  check(layout, a, b, c, sizes, options);
  const { m, n, k } = sizes;
  const variant = options.variant ?? variantOf(gpu);
  const tile = TILE[variant];
  const tiles = Math.ceil(m / tile.rows) * Math.ceil(n / tile.columns);
  // Few tiles and a long sum: more workgroups share the sum, each at least 256 deep, and a second kernel adds theirs up.
  const mayCut = layout === "TN" && live(options.dropout)?.on !== "c";
  const splits = mayCut ? Math.max(1, Math.min(Math.ceil(256 / tiles), Math.floor(k / 256))) : 1;
  const chunk = splits === 1 ? k : Math.ceil(k / splits / 16) * 16;
  if (splits === 1) {
    launch(gpu, layout, variant, a, b, c, sizes, options, { tiles, splits, chunk });
    return;
  }
  const parts = gpu.alloc([splits * m, n], "f32", `parts of ${c.label}`, "scratch");
  launch(
    gpu,
    layout,
    variant,
    a,
    b,
    parts,
    sizes,
    { ...options, accumulate: false, cColumn: 0 },
    { tiles, splits, chunk },
  );
  addSplits(gpu, parts, c, splits, sizes, options);
  gpu.free(parts);
}

function check(layout: Layout, a: Tensor, b: Tensor, c: Tensor, { m, n, k }: Sizes, options: MatmulOptions): void {
  const { aColumn = 0, cColumn = 0, dropout } = options;
  expectTensor(a, layout === "TN" ? [k, m] : [m, -1], ...FLOATS);
  expectTensor(b, b.shape, ...FLOATS);
  expectTensor(c, [m, -1], ...FLOATS);
  const whole = layout === "TN" || (aColumn === 0 && a.shape[1] === k);
  if (!whole && !(aColumn % 4 === 0 && k % 4 === 0 && aColumn + k <= a.shape[1]!)) {
    throw new RangeError(
      `tensor ${a.label}: columns ${aColumn} to ${aColumn + k} of [${a.shape.join(",")}] cannot be multiplied by ${b.label} [${b.shape.join(",")}]`,
    );
  }
  if (!(cColumn === 0 && c.shape[1] === n) && !(cColumn % 4 === 0 && n % 4 === 0 && cColumn + n <= c.shape[1]!)) {
    throw new RangeError(
      `tensor ${c.label}: columns ${cColumn} to ${cColumn + n} of [${c.shape.join(",")}] cannot be written`,
    );
  }
  if (dropout === undefined) return;
  const rows = dropout.on === "c" ? m : (dropout.on === "a" ? a : b).shape[0]!;
  expectTensor(dropout.rowKeys, [rows], "u32");
}

interface Cut {
  readonly tiles: number;
  readonly splits: number;
  readonly chunk: number;
}

function launch(
  gpu: Gpu,
  layout: Layout,
  variant: Variant,
  a: Tensor,
  b: Tensor,
  c: Tensor,
  sizes: Sizes,
  options: MatmulOptions,
  cut: Cut,
): void {
  const { scale = 1, accumulate = false, aColumn = 0, cColumn = 0 } = options;
  const dropout = live(options.dropout);
  const { m, n, k } = sizes;
  const [aStride, bColumns, cStride] = [a.shape[1]!, b.shape[1]!, c.shape[1]!];
  const source: SourceOptions = {
    layout,
    variant,
    vectorA: aStride % 4 === 0,
    vectorB: bColumns % 4 === 0,
    vectorC: n % 4 === 0 && cStride % 4 === 0,
    dropout: dropout?.on,
  };
  const types = { A: a.dtype as Float, B: b.dtype as Float, C: c.dtype as Float, H: gpu.computeDtype };
  const vectors = [source.vectorA, source.vectorB, source.vectorC].map((vector) => (vector ? 4 : 1)).join("");
  const kernel = gpu.kernel(
    `matmul/${layout}/${variant}/${Object.values(types).join("-")}/${vectors}/${dropout?.on ?? "whole"}`,
    () => ({
      code: matmulSource(source),
      bindings: ["read", "read", "write", ...(dropout === undefined ? [] : (["read"] as const))],
      uniforms: matmulUniforms(source),
      types,
    }),
    LONG_TEXT,
  );
  const mask = dropout !== undefined && {
    site: dropout.site,
    seed: dropout.seed,
    threshold: dropoutThreshold(dropout.p),
    keep_scale: dropoutScale(dropout.p),
  };
  const uniforms = {
    ...sizes,
    ...cut,
    ...mask,
    scale,
    a_columns: layout === "TN" ? m : k,
    a_stride: aStride,
    a_column: aColumn,
    b_columns: bColumns,
    c_stride: cStride,
    c_column: cColumn,
    accumulate: Number(accumulate),
  };
  gpu.dispatch(
    kernel,
    dropout === undefined ? [a, b, c] : [a, b, c, dropout.rowKeys],
    uniforms,
    gridFor(cut.tiles * cut.splits),
    { flops: 2 * m * n * k },
  );
}

/** The mask, where it drops anything. */
function live(dropout: OperandDropout | undefined): OperandDropout | undefined {
  return dropout !== undefined && dropoutThreshold(dropout.p) > 0 ? dropout : undefined;
}

/** c (=|+=) the sum of its partial products, in order. */
function addSplits(
  gpu: Gpu,
  parts: Tensor,
  c: Tensor,
  splits: number,
  { m, n }: Sizes,
  { accumulate = false }: MatmulOptions,
): void {
  const kernel = gpu.kernel(`matmul/sum-splits/${c.dtype}`, () => ({
    code: sumCode,
    bindings: ["read", "write"],
    uniforms: { size: "u32", splits: "u32", accumulate: "u32" },
    types: { C: c.dtype as Float },
  }));
  gpu.dispatch(kernel, [parts, c], { size: m * n, splits, accumulate: Number(accumulate) }, gridFor((m * n) / 256));
}
