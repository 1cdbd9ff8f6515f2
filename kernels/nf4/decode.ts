import type { Nf4Weight } from "../../core/compute/linear.ts";
import { type UniformType, wgslFloat } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { nf4CodeBook } from "../../core/formats/nf4.ts";

/** Uniforms that `nf4Source` reads; `zero` must be 0 and is there so that no compiler may know it. */
export const nf4Uniforms: Readonly<Record<string, UniformType>> = { nested_offset: "f32", zero: "u32" };

const ROUNDING = { f32: 0, bf16: 1, f16: 2 } as const;

/** Constants that `nf4Source` reads for this kind of weight. */
export function nf4Constants(weight: Nf4Weight): Record<string, number> {
  return { NF4_NESTED: weight.nested === undefined ? 0 : 1, NF4_ROUNDING: ROUNDING[weight.rounding] };
}

/** Part of a kernel's key: all that `nf4Constants` depends on. */
export function nf4Key(weight: Nf4Weight): string {
  return `${weight.nested === undefined ? "plain" : "nested"}-${weight.rounding}`;
}

/** The three read-only bindings that `nf4Source` declares, in order. */
export function nf4Tensors(weight: Nf4Weight): readonly [codes: Tensor, absmax: Tensor, nested: Tensor] {
  // A weight without double quantization has no third tensor; the kernel never looks at what stands in for it.
  return [weight.codes, weight.absmax, weight.nested ?? weight.absmax];
}

/** Four code-book values picked by four nibbles: a tree of 15 selects, since an indexed array would be 4 scattered loads. */
function pickSource(): string {
  let level = Array.from(nf4CodeBook, (value) => `vec4f(${wgslFloat(value)})`);
  for (let bit = 1; level.length > 1; bit *= 2) {
    const pairs = Array.from({ length: level.length / 2 }, (_, i) => [level[2 * i], level[2 * i + 1]]);
    level = pairs.map(([low, high]) => `select(${low}, ${high}, bit${bit})`);
  }
  return level[0]!;
}

/**
 * WGSL that decodes NF4, with the bindings `first` to `first + 2` (see `nf4Tensors`):
 * - `nf4_scale(block) -> f32`: the absmax of a block of 64 flattened weights, bit-equal to bitsandbytes;
 * - `nf4_four(bits) -> vec4f`: the code-book values of the four nibbles in the low half of a word of codes;
 * - `nf4_round(v) -> vec4f`: to the precision of the weight's `quant_state.dtype`, ties to even.
 *
 * A weight is `nf4_round(nf4_four(word) * nf4_scale(element / 64))`. Source: bitsandbytes csrc/kernels.cu.
 */
export function nf4Source(first: number): string {
  return /* wgsl */ `
@group(0) @binding(${first}) var<storage, read> nf4_codes: array<u32>;
@group(0) @binding(${first + 1}) var<storage, read> nf4_absmax: array<u32>;
@group(0) @binding(${first + 2}) var<storage, read> nf4_nested: array<f32>;

fn nf4_scale(block: u32) -> f32 {
  if (NF4_NESTED == 0u) {
    return bitcast<f32>(nf4_absmax[block]);
  }
  let code = (nf4_absmax[block / 4u] >> (8u * (block % 4u))) & 255u;
  let product = nf4_nested[code] * nf4_nested[256u + block / 256u];
  // bitsandbytes rounds the product before it adds; the opaque zero keeps compilers from fusing the two.
  return bitcast<f32>(bitcast<u32>(product) ^ params.zero) + params.nested_offset;
}

fn nf4_four(bits: u32) -> vec4f {
  // The high nibble of each byte comes first.
  let code = vec4u(bits) >> vec4u(4u, 0u, 12u, 8u);
  let bit1 = (code & vec4u(1u)) != vec4u(0u);
  let bit2 = (code & vec4u(2u)) != vec4u(0u);
  let bit4 = (code & vec4u(4u)) != vec4u(0u);
  let bit8 = (code & vec4u(8u)) != vec4u(0u);
  return ${pickSource()};
}

fn nf4_round(v: vec4f) -> vec4f {
  if (NF4_ROUNDING == 1u) {
    let bits = bitcast<vec4u>(v);
    return bitcast<vec4f>((bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) & vec4u(0xffff0000u));
  }
  if (NF4_ROUNDING == 2u) {
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
