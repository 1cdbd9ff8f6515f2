import type { DenseWeight, FrozenWeight, QuantizedWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type KernelSpec, LONG_TEXT, wgslFloat } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { codeBooks } from "../../core/formats/nf4.ts";
import { IMAGE_VECTOR, type OperandLayout, operandLayout } from "../matmul-matrix/image.ts";
import { IMAGE } from "../matmul-matrix/tiling.ts";
import { blockSource, weightConstants, weightKey, weightSource, weightTensors, weightUniforms } from "./decode.ts";

/**
 * How a code becomes a number: `table` reads workgroup memory, where every lane has a copy of the code book so that no
 * two meet in a bank; `select` is a tree of selects.
 */
export type CodeLookup = "table" | "select";

/** Code words (eight weights) that one invocation of the row kernel decodes. */
const WORDS = 8;
const THREADS = 256;
/** Tile of the transposing kernel: output columns (weight rows) and output rows (weight columns). */
const TILE_OUT = 64;
const TILE_IN = 128;

const lookupText = (
  kind: QuantizedWeight["kind"],
  lookup: CodeLookup,
  threads: number,
): { declare: string; fill: string; four: (bits: string) => string } => {
  if (lookup === "select") return { declare: "", fill: "", four: (bits) => `block_four(${bits})` };
  return {
    declare: `const BOOK = array<f32, 16>(${Array.from(codeBooks[kind], wgslFloat).join(", ")});
var<workgroup> book: array<f32, 512>;
fn book_four(bits: u32, lane: u32) -> vec4f {
  // The high nibble of each byte comes first.
  return vec4f(
    book[((bits >> 4u) & 15u) * 32u + lane], book[(bits & 15u) * 32u + lane],
    book[((bits >> 12u) & 15u) * 32u + lane], book[((bits >> 8u) & 15u) * 32u + lane]);
}`,
    fill: `for (var i = li; i < 512u; i += ${threads}u) { book[i] = BOOK[i / 32u]; }`,
    four: (bits) => `book_four(${bits}, li % 32u)`,
  };
};

const PACK4 = "fn pack4(v: vec4f) -> vec2<u32> { return vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw)); }";

/** Writes the weight as it lies, `[out, in]`, row by row or as an image. */
function rowsSpec(weight: FrozenWeight, lookup: CodeLookup, layout: OperandLayout): KernelSpec {
  const at =
    layout === "image"
      ? "image_vector((first + i) / params.across, (first + i) % params.across, params.depth)"
      : "first + i";
  const parts = weight.kind === "dense" ? denseRows(weight) : blockRows(weight, lookup);
  const code = `${parts.declare}
@group(0) @binding(3) var<storage, read_write> output: array<vec4<u32>>;
${PACK4}
${layout === "image" ? IMAGE_VECTOR : ""}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let first = group_index(wg, count) * ${THREADS * WORDS}u;
  ${parts.prepare}
  for (var i = li; i < ${THREADS * WORDS}u; i += ${THREADS}u) {
    if (first + i < params.words) {
      ${parts.decode}
      output[${at}] = vec4<u32>(pack4(low), pack4(high));
    }
  }
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: { words: "u32", across: "u32", depth: "u32", ...weightUniforms },
    constants: weightConstants(weight),
  };
}

/** How the row kernel makes `low` and `high`, eight weights of word `first + i`. */
interface RowParts {
  readonly declare: string;
  readonly prepare: string;
  readonly decode: string;
}

const denseRows = (weight: DenseWeight): RowParts => ({
  declare: weightSource(0, weight),
  prepare: "",
  decode: `let low = weight_four(2u * (first + i));
      let high = weight_four(2u * (first + i) + 1u);`,
});

function blockRows(weight: QuantizedWeight, lookup: CodeLookup): RowParts {
  const { declare, fill, four } = lookupText(weight.kind, lookup, THREADS);
  return {
    declare: `${blockSource(0, weight)}
${declare}
var<workgroup> scales: array<f32, ${(THREADS * WORDS) / 8}>;`,
    prepare: `${fill}
  // Eight words share a scale, and restoring one costs two dependent loads: once, by one invocation.
  if (first + li * 8u < params.words) {
    scales[li] = block_scale(first / 8u + li);
  }
  workgroupBarrier();`,
    decode: `let bits = block_codes[first + i];
      let scale = scales[i / 8u];
      let low = block_round(${four("bits")} * scale);
      let high = block_round(${four("bits >> 16u")} * scale);`,
  };
}

/**
 * Writes the weight transposed, `[in, out]`. A lane decodes 32 codes of two neighboring rows and packs them in pairs;
 * the tile turns in workgroup memory, so that both the codes and the result move in whole cache lines.
 */
function transposedSpec(weight: FrozenWeight, lookup: CodeLookup, layout: OperandLayout): KernelSpec {
  const { inFeatures, outFeatures } = weight;
  const threads = TILE_IN;
  const stride = TILE_OUT / 8 + 1;
  const { declare, fill, scales, pair } =
    weight.kind === "dense" ? densePairs(weight) : blockPairs(weight, lookup, threads);
  const code = `${declare}
@group(0) @binding(3) var<storage, read_write> output: array<vec4<u32>>;
${layout === "image" ? IMAGE_VECTOR : ""}
var<workgroup> tile: array<vec4<u32>, ${TILE_IN * stride}>;
fn put(column: u32, pair: u32, even: f32, odd: f32) {
  tile[column * ${stride}u + pair / 4u][pair % 4u] = pack2x16float(vec2f(even, odd));
}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let index = group_index(wg, count);
  let row0 = index / ${Math.ceil(inFeatures / TILE_IN)}u * ${TILE_OUT}u;
  let col0 = index % ${Math.ceil(inFeatures / TILE_IN)}u * ${TILE_IN}u;
  if (row0 >= ${outFeatures}u) {
    return;
  }
  ${fill}
  workgroupBarrier();
  let pair = li % 32u;
  let first = li / 32u * 32u;
  if (col0 + first < ${inFeatures}u) {
    let even = (row0 + 2u * pair) * ${inFeatures}u + col0 + first;
    let odd = even + ${inFeatures}u;
    ${scales}
    for (var word = 0u; word < 4u; word++) {
      ${pair.words}
      for (var half = 0u; half < 2u; half++) {
        let a = ${pair.even};
        let b = ${pair.odd};
        let column = first + word * 8u + half * 4u;
        put(column, pair, a.x, b.x);
        put(column + 1u, pair, a.y, b.y);
        put(column + 2u, pair, a.z, b.z);
        put(column + 3u, pair, a.w, b.w);
      }
    }
  }
  workgroupBarrier();
  for (var i = li; i < ${(TILE_IN * TILE_OUT) / 8}u; i += ${threads}u) {
    let column = i / ${TILE_OUT / 8}u;
    if (col0 + column < ${inFeatures}u) {
      output[${layout === "image" ? `image_vector(col0 + column, row0 / 8u + i % ${TILE_OUT / 8}u, ${inFeatures}u)` : `(col0 + column) * ${outFeatures / 8}u + row0 / 8u + i % ${TILE_OUT / 8}u`}] = tile[column * ${stride}u + i % ${TILE_OUT / 8}u];
    }
  }
}
`;
  return {
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: weightUniforms,
    constants: weightConstants(weight),
  };
}

/** How the transposing kernel makes `a` and `b`, four weights of two rows that start at elements `even` and `odd`. */
interface PairParts {
  readonly declare: string;
  readonly fill: string;
  readonly scales: string;
  readonly pair: { readonly words: string; readonly even: string; readonly odd: string };
}

const densePairs = (weight: DenseWeight): PairParts => ({
  declare: weightSource(0, weight),
  fill: "",
  scales: "",
  pair: {
    words: "",
    even: "weight_four(even / 4u + 2u * word + half)",
    odd: "weight_four(odd / 4u + 2u * word + half)",
  },
});

function blockPairs(weight: QuantizedWeight, lookup: CodeLookup, threads: number): PairParts {
  const { declare, fill, four } = lookupText(weight.kind, lookup, threads);
  return {
    declare: `${blockSource(0, weight)}\n${declare}`,
    fill,
    scales: `let even_scale = block_scale(even / 64u);
    let odd_scale = block_scale(odd / 64u);`,
    pair: {
      words: `let even_bits = block_codes[even / 8u + word];
      let odd_bits = block_codes[odd / 8u + word];`,
      even: `block_round(${four("(even_bits >> (16u * half))")} * even_scale)`,
      odd: `block_round(${four("(odd_bits >> (16u * half))")} * odd_scale)`,
    },
  };
}

function expectSides(weight: FrozenWeight): void {
  if (weight.inFeatures % 64 !== 0 || weight.outFeatures % 64 !== 0) {
    throw new RangeError(`${weight.name} [${weight.outFeatures},${weight.inFeatures}]: sides must be multiples of 64`);
  }
}

/** How a weight is dequantized for products. */
export interface DequantizeOptions {
  readonly lookup?: CodeLookup;
  /** How the result lies; default row by row. An image needs a multiple of 256 columns. */
  readonly layout?: OperandLayout;
}

function expectColumns(out: Tensor, layout: OperandLayout): void {
  if (layout === "image" && out.shape[1]! % IMAGE.columns !== 0)
    throw new RangeError(`${out.label} [${out.shape.join(",")}]: an image has a multiple of ${IMAGE.columns} columns`);
}

/**
 * `out [out, in] f16` = the weight; one in 4 bits bit-equal to bitsandbytes: code book times absmax in f32, rounded to
 * `weight.rounding`, then to f16. The operand of input gradients.
 * @throws RangeError for another shape, or sides that are no multiples of 64
 */
export function dequantizeRows(
  gpu: Gpu,
  weight: FrozenWeight,
  out: Tensor,
  { lookup = "table", layout = "rows" }: DequantizeOptions = {},
): void {
  expectSides(weight);
  const { inFeatures, outFeatures } = weight;
  expectTensor(out, [outFeatures, inFeatures], "f16");
  expectColumns(out, layout);
  const key = `gemm/dequantize-rows/${weightKey(weight)}/${lookup}/${layout}`;
  const kernel = gpu.kernel(key, () => rowsSpec(weight, lookup, layout), LONG_TEXT);
  const words = (outFeatures * inFeatures) / 8;
  gpu.dispatch(
    kernel,
    [...weightTensors(weight), out],
    { words, across: inFeatures / 8, depth: outFeatures, zero: 0 },
    gridFor(words / (THREADS * WORDS)),
  );
}

/**
 * `out [in, out] f16` = the dequantized weight transposed: the operand of forward products.
 * @throws RangeError for another shape, or sides that are no multiples of 64
 */
export function dequantizeTransposed(
  gpu: Gpu,
  weight: FrozenWeight,
  out: Tensor,
  { lookup = "table", layout = "rows" }: DequantizeOptions = {},
): void {
  expectSides(weight);
  const { inFeatures, outFeatures } = weight;
  expectTensor(out, [inFeatures, outFeatures], "f16");
  expectColumns(out, layout);
  const key = `gemm/dequantize-transposed/${outFeatures}x${inFeatures}/${weightKey(weight)}/${lookup}/${layout}`;
  const kernel = gpu.kernel(key, () => transposedSpec(weight, lookup, layout), LONG_TEXT);
  const tiles = (outFeatures / TILE_OUT) * Math.ceil(inFeatures / TILE_IN);
  gpu.dispatch(kernel, [...weightTensors(weight), out], { zero: 0 }, gridFor(tiles));
}

/** The weight with a dequantized copy kept beside it for forward passes, in `operandLayout`; 2 bytes an element. */
export function keepTransposed(gpu: Gpu, weight: FrozenWeight): FrozenWeight {
  const { inFeatures, outFeatures, name } = weight;
  const transposedLayout = operandLayout(gpu, outFeatures);
  const transposed = gpu.alloc([inFeatures, outFeatures], "f16", `${name} transposed`, "weights");
  dequantizeTransposed(gpu, weight, transposed, { layout: transposedLayout });
  return { ...weight, transposed, transposedLayout };
}
