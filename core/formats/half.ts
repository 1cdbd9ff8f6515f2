/** Sixteen-bit floats on the CPU: bfloat16 and IEEE half, both rounded to nearest even. */

const f32Scratch = new Float32Array(1);
const u32Scratch = new Uint32Array(f32Scratch.buffer);

/** Bits of the bfloat16 nearest to an f32; NaN keeps its sign and becomes quiet. */
export function f32ToBf16Bits(value: number): number {
  f32Scratch[0] = value;
  const bits = u32Scratch[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The f32 that a bfloat16 stands for. */
export function bf16BitsToF32(bits: number): number {
  u32Scratch[0] = bits << 16;
  return f32Scratch[0]!;
}

/** An f32 rounded to bfloat16's eight bits of precision. */
export function roundToBf16(value: number): number {
  return bf16BitsToF32(f32ToBf16Bits(value));
}

/** An f32 rounded to half precision; beyond 65504 it is infinite. */
export function roundToF16(value: number): number {
  return Math.f16round(value);
}

/** `[n]` f32 -> `[n]` bfloat16 bits. */
export function f32ToBf16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < out.length; i++) {
    const word = bits[i]!;
    const nan = (word & 0x7fffffff) > 0x7f800000;
    out[i] = nan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** `[n]` bfloat16 bits -> `[n]` f32, exact. */
export function bf16ToF32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16;
  return new Float32Array(out.buffer);
}

/** `[n]` f32 -> `[n]` half-precision bits. */
export function f32ToF16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const halves = new Float16Array(values);
  return new Uint16Array(halves.buffer);
}

/** `[n]` half-precision bits -> `[n]` f32, exact. */
export function f16ToF32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(new Float16Array(bits.buffer, bits.byteOffset, bits.length));
}
