import type { DenseWeight, FrozenWeight, QuantizedWeight } from "../../core/compute/linear.ts";
import { type UniformType, wgslFloat } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { codeBooks } from "../../core/formats/nf4.ts";

/** Uniforms that `weightSource` reads; `zero` must be 0 and is there so that no compiler may know it. */
export const weightUniforms: Readonly<Record<string, UniformType>> = { zero: "u32" };

const ROUNDING = { f32: 0, bf16: 1, f16: 2 } as const;
/** Blocks are counted in these: a block is one, or a power of two of them. */
const CHUNK = 64;

/** Constants that `weightSource` reads for this kind of weight. */
export function weightConstants(weight: FrozenWeight): Record<string, number> {
  if (weight.kind === "dense") return {};
  return {
    BLOCK_CHUNKS: weight.blockSize / CHUNK,
    IS_NESTED: weight.nested === undefined ? 0 : 1,
    ROUNDING: ROUNDING[weight.rounding],
  };
}

/** Part of a kernel's key: all that `weightSource` and `weightConstants` depend on. */
export function weightKey(weight: FrozenWeight): string {
  if (weight.kind === "dense") return `dense-${weight.values.dtype}`;
  const { kind, blockSize, nested, rounding } = weight;
  return `${kind}-${blockSize}-${nested === undefined ? "plain" : "nested"}-${rounding}`;
}

/** The three read-only bindings that `weightSource` declares, in order. */
export function weightTensors(weight: FrozenWeight): readonly [Tensor, Tensor, Tensor] {
  // What a weight does not have is never looked at; another tensor stands in for it.
  if (weight.kind === "dense") return [weight.values, weight.values, weight.values];
  return [weight.codes, weight.absmax, weight.nested ?? weight.absmax];
}

/**
 * WGSL that decodes a frozen weight of any kind, with the bindings `first` to `first + 2` (see `weightTensors`):
 * `weight_four(quad) -> vec4f` gives the flattened weights 4 quad to 4 quad + 3, as the linear multiplies by them.
 */
export function weightSource(first: number, weight: FrozenWeight): string {
  if (weight.kind === "dense") return denseSource(first, weight);
  return `${blockSource(first, weight)}
fn weight_four(quad: u32) -> vec4f {
  let bits = block_codes[quad / 2u] >> (16u * (quad % 2u));
  return block_round(block_four(bits) * block_scale(quad / ${CHUNK / 4}u));
}
`;
}

/** Four values of a word or two; `quad` counts fours. */
const DENSE: Readonly<Record<string, string>> = {
  f32: "return bitcast<vec4f>(vec4u(values[4u * quad], values[4u * quad + 1u], values[4u * quad + 2u], values[4u * quad + 3u]));",
  f16: "return vec4f(unpack2x16float(values[2u * quad]), unpack2x16float(values[2u * quad + 1u]));",
  bf16: `let words = vec2u(values[2u * quad], values[2u * quad + 1u]);
  return bitcast<vec4f>(vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));`,
};

function denseSource(first: number, { values }: DenseWeight): string {
  return /* wgsl */ `
@group(0) @binding(${first}) var<storage, read> values: array<u32>;
@group(0) @binding(${first + 1}) var<storage, read> values_twice: array<u32>;
@group(0) @binding(${first + 2}) var<storage, read> values_thrice: array<u32>;
fn weight_four(quad: u32) -> vec4f {
  ${DENSE[values.dtype]!}
}
`;
}

/** Four code-book values picked by four nibbles: a tree of 15 selects, since an indexed array would be 4 scattered loads. */
function pickSource(kind: QuantizedWeight["kind"]): string {
  let level = Array.from(codeBooks[kind], (value) => `vec4f(${wgslFloat(value)})`);
  for (let bit = 1; level.length > 1; bit *= 2) {
    const pairs = Array.from({ length: level.length / 2 }, (_, i) => [level[2 * i], level[2 * i + 1]]);
    level = pairs.map(([low, high]) => `select(${low}, ${high}, bit${bit})`);
  }
  return level[0]!;
}

/**
 * WGSL that decodes a 4-bit weight in its parts, with the bindings `first` to `first + 2`:
 * - `block_scale(chunk) -> f32`: the absmax of the block that holds 64 flattened weights, bit-equal to bitsandbytes;
 * - `block_four(bits) -> vec4f`: the code-book values of the four nibbles in the low half of a word of codes;
 * - `block_round(v) -> vec4f`: to the precision of the weight's `quant_state.dtype`, ties to even.
 *
 * A weight is `block_round(block_four(word) * block_scale(element / 64))`. Source: bitsandbytes csrc/kernels.cu.
 */
export function blockSource(first: number, { kind }: QuantizedWeight): string {
  return /* wgsl */ `
@group(0) @binding(${first}) var<storage, read> block_codes: array<u32>;
@group(0) @binding(${first + 1}) var<storage, read> block_absmax: array<u32>;
@group(0) @binding(${first + 2}) var<storage, read> block_nested: array<f32>;

fn block_scale(chunk: u32) -> f32 {
  let block = chunk / BLOCK_CHUNKS;
  if (IS_NESTED == 0u) {
    return bitcast<f32>(block_absmax[block]);
  }
  let code = (block_absmax[block / 4u] >> (8u * (block % 4u))) & 255u;
  let product = block_nested[code] * block_nested[257u + block / 256u];
  // bitsandbytes rounds the product before it adds; the opaque zero keeps compilers from fusing the two.
  return bitcast<f32>(bitcast<u32>(product) ^ params.zero) + block_nested[256];
}

fn block_four(bits: u32) -> vec4f {
  // The high nibble of each byte comes first.
  let code = vec4u(bits) >> vec4u(4u, 0u, 12u, 8u);
  let bit1 = (code & vec4u(1u)) != vec4u(0u);
  let bit2 = (code & vec4u(2u)) != vec4u(0u);
  let bit4 = (code & vec4u(4u)) != vec4u(0u);
  let bit8 = (code & vec4u(8u)) != vec4u(0u);
  return ${pickSource(kind)};
}

fn block_round(v: vec4f) -> vec4f {
  if (ROUNDING == 1u) {
    let bits = bitcast<vec4u>(v);
    return bitcast<vec4f>((bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) & vec4u(0xffff0000u));
  }
  if (ROUNDING == 2u) {
    let bits = bitcast<vec4u>(v);
    let normal = bitcast<vec4f>((bits + vec4u(0xfffu) + ((bits >> vec4u(13u)) & vec4u(1u))) & vec4u(0xffffe000u));
    // Below 2^-14 a half is a multiple of 2^-24, which is what an f32 near 0.5 can hold.
    let shifted = bitcast<vec4f>(bitcast<vec4u>(abs(v) + vec4f(0.5)) ^ vec4u(params.zero)) - vec4f(0.5);
    return select(normal, sign(v) * shifted, abs(v) < vec4f(6.103515625e-5));
  }
  return v;
}
`;
}
