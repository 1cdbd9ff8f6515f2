/**
 * Quantizing on the GPU, bit for bit as bitsandbytes does it: the codes and the absmax of blocks, and the absmax quantized once
 * more around their mean, which is summed in torch's order.
 */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, LONG_TEXT, wgslFloat } from "../../core/device/kernel.ts";
import { elementCount, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import {
  type BlockQuantization,
  codeRules,
  DEFAULT_BLOCK_SIZE,
  NESTED_BLOCK_SIZE,
  type QuantType,
} from "../../core/formats/nf4.ts";
import { meanPlan } from "../../core/formats/torch-mean.ts";
import laneSumsCode from "./lane-sums.wgsl" with { type: "text" };
import nestedCode from "./quantize-absmax.wgsl" with { type: "text" };
import quantizeCode from "./quantize.wgsl" with { type: "text" };
import reciprocalCode from "./reciprocal.wgsl" with { type: "text" };

const THREADS = 256;
/** Weights of a code word. */
const WORD = 8;

/** Four weights of a quad, by how they are stored. */
const LOAD = {
  f32: "return bitcast<vec4f>(vec4u(values[4u * quad], values[4u * quad + 1u], values[4u * quad + 2u], values[4u * quad + 3u]));",
  f16: "return vec4f(unpack2x16float(values[2u * quad]), unpack2x16float(values[2u * quad + 1u]));",
  bf16: `let words = vec2u(values[2u * quad], values[2u * quad + 1u]);
  return bitcast<vec4f>(vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));`,
} as const;
type Stored = keyof typeof LOAD;

/** `code_of(x) -> u32` of a value that was divided by its block's absmax. */
function codeSource(quantType: QuantType): string {
  const { thresholds, codes, signed } = codeRules[quantType];
  const above = Array.from(thresholds, (t) => `select(0u, 1u, v > ${wgslFloat(t)})`).join(" + ");
  if (!signed) return `fn code_of(v: f32) -> u32 {\n  return ${above};\n}\n`;
  const table = codes.reduce((word, code, i) => word + code * 16 ** i, 0);
  return `fn code_of(x: f32) -> u32 {
  let v = abs(x);
  return ((${table}u >> (4u * (${above}))) & 15u) | select(0u, 8u, x < 0.0);
}
`;
}

/** How `quantize` is done, and where in the weight the values stand. */
export interface QuantizeOptions extends BlockQuantization {
  /** Index of the first value in the flattened weight; a multiple of 4096. Default 0. */
  readonly first?: number;
  /** How many values there are. Default: all of `values`. */
  readonly size?: number;
  /** [n] u32 and which of them becomes 1 where a value is NaN or infinite. */
  readonly flag?: { readonly tensor: Tensor; readonly index: number } | undefined;
}

/**
 * Quantizes values (flattened, f32, f16 or bf16) as bitsandbytes does: the block times the reciprocal of its absmax, a tie between
 * two codes to the lower one. Blocks whose absmax is outside 2^-126 … 2^126 become zeros.
 * @param codes u32 [ceil(n/8)] of the whole weight
 * @param absmax f32 [ceil(n/blockSize)] of the whole weight
 */
export function quantize(gpu: Gpu, values: Tensor, codes: Tensor, absmax: Tensor, options: QuantizeOptions = {}): void {
  const { quantType = "nf4", blockSize = DEFAULT_BLOCK_SIZE, first = 0, flag } = options;
  const { size = elementCount(values.shape) } = options;
  expectTensor(values, values.shape, "f32", "f16", "bf16");
  expectTensor(codes, [-1], "u32");
  expectTensor(absmax, [-1], "f32");
  const fits = codes.shape[0]! * WORD >= first + size && absmax.shape[0]! * blockSize >= first + size;
  if (first % 4096 !== 0 || size > elementCount(values.shape) || !fits) {
    throw new RangeError(
      `${values.label}: ${size} values from ${first} on do not fit ${codes.label} [${codes.shape[0]}] and ${absmax.label} [${absmax.shape[0]}]`,
    );
  }
  const dtype = values.dtype as Stored;
  const perThread = Math.max(1, blockSize / (THREADS * WORD));
  const kernel = gpu.kernel(
    `quantize/${quantType}-${blockSize}/${dtype}/${flag === undefined ? "any" : "flagged"}`,
    () => ({
      code: `${reciprocalCode}${codeSource(quantType)}fn load_four(quad: u32) -> vec4f {\n  ${LOAD[dtype]}\n}\n${
        flag === undefined
          ? "fn tell() {}\n"
          : "@group(0) @binding(3) var<storage, read_write> flags: array<u32>;\nfn tell() { flags[params.flag] = 1u; }\n"
      }${quantizeCode}`,
      bindings: ["read", "write", "write", ...(flag === undefined ? [] : (["write"] as const))],
      uniforms: { size: "u32", first_word: "u32", first_block: "u32", flag: "u32" },
      constants: { PER_THREAD: perThread, SHARERS: blockSize / WORD / perThread, BLOCK: blockSize },
    }),
    LONG_TEXT,
  );
  const tensors = [values, codes, absmax, ...(flag === undefined ? [] : [flag.tensor])];
  const uniforms = { size, first_word: first / WORD, first_block: first / blockSize, flag: flag?.index ?? 0 };
  gpu.dispatch(kernel, tensors, uniforms, gridFor(size / (THREADS * WORD * perThread)));
}

/**
 * Quantizes the absmax of a weight to 8 bits around their mean.
 * @param absmax f32 [blocks]
 * @param codes u32 [ceil(blocks/4)]
 * @param nested f32 [257 + ceil(blocks/256)] whose first 256 are the map; the rest is written: the mean, then the nested absmax
 */
export function quantizeScales(gpu: Gpu, absmax: Tensor, codes: Tensor, nested: Tensor): void {
  const blocks = absmax.shape[0]!;
  const nestedBlocks = Math.ceil(blocks / NESTED_BLOCK_SIZE);
  expectTensor(absmax, [-1], "f32");
  expectTensor(codes, [Math.ceil(blocks / 4)], "u32");
  expectTensor(nested, [NESTED_BLOCK_SIZE + 1 + nestedBlocks], "f32");
  const { lanes, groups, vectors } = meanPlan(blocks);
  const parts = gpu.alloc([groups], "f32", `sums of ${absmax.label}`, "scratch");
  laneSums(gpu, absmax, parts, { lanes, groups, how: vectors ? "vectors" : "values", factor: 1, at: 0 });
  // The sums of workgroups are added as one workgroup adds lanes; a single one is the sum.
  const last = groups === 1 ? 1 : lanes;
  laneSums(gpu, parts, nested, { lanes: last, groups: 1, how: "parts", factor: Math.fround(1 / blocks), at: 256 });
  gpu.free(parts);
  const kernel = gpu.kernel("quantize/absmax", () => ({
    code: reciprocalCode + nestedCode,
    bindings: ["read", "write", "write"],
    uniforms: { size: "u32" },
  }));
  gpu.dispatch(kernel, [absmax, codes, nested], { size: blocks }, gridFor(nestedBlocks));
}

/** How lanes read what they add up: `MeanPlan` says it of the first pass. */
type LaneReading = "vectors" | "values" | "parts";
const READING: readonly LaneReading[] = ["vectors", "values", "parts"];

interface LaneSums {
  readonly lanes: number;
  readonly groups: number;
  readonly how: LaneReading;
  readonly factor: number;
  /** Where in `out` the first sum goes. */
  readonly at: number;
}

function laneSums(gpu: Gpu, values: Tensor, out: Tensor, { lanes, groups, how, factor, at }: LaneSums): void {
  const kernel = gpu.kernel(`quantize/lane-sums/${how}/${lanes}`, () => ({
    code: laneSumsCode,
    bindings: ["read", "write"],
    uniforms: { size: "u32", groups: "u32", at: "u32", factor: "f32" },
    constants: { LANES: lanes, READING: READING.indexOf(how) },
  }));
  gpu.dispatch(kernel, [values, out], { size: values.shape[0]!, groups, at, factor }, gridFor(groups));
}
