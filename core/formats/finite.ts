/** NaN and infinite values of a checkpoint's or an adapter's tensors, told by the tensor's name as its bytes come in. */
import { ModelError } from "../errors.ts";
import type { SafetensorsDType } from "./safetensors-header.ts";
import type { TensorSource } from "./safetensors.ts";

/** Exponents all ones: NaN or infinite. */
const EXPONENTS = { BF16: 0x7f80, F16: 0x7c00 } as const;
const BYTES = { BF16: 2, F16: 2, F32: 4 } as const;

/** Bytes that are looked at before they go on. */
const PIECE_BYTES = 2 ** 22;

const isFloat = (dtype: SafetensorsDType | undefined): dtype is keyof typeof BYTES =>
  dtype !== undefined && dtype in BYTES;

/** Index of the first element that is NaN or infinite, among the whole ones of these bytes; -1 where there is none. */
export function firstNonFinite(bytes: Uint8Array, dtype: SafetensorsDType): number {
  if (!isFloat(dtype)) return -1;
  const width = BYTES[dtype];
  const count = Math.floor(bytes.byteLength / width);
  const own = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  if (dtype === "F32") {
    const words = new Uint32Array(own.buffer, own.byteOffset, count);
    // A plain loop: findIndex takes twelve times as long.
    for (let i = 0; i < count; i++) if ((words[i]! & 0x7f800000) === 0x7f800000) return i;
    return -1;
  }
  const exponent = EXPONENTS[dtype];
  const high = exponent << 16;
  // Two halves at a time: a token table has a billion of them.
  const pairs = new Uint32Array(own.buffer, own.byteOffset, count >> 1);
  for (let i = 0; i < pairs.length; i++) {
    const bits = pairs[i]!;
    if ((bits & exponent) === exponent) return 2 * i;
    if ((bits & high) === high) return 2 * i + 1;
  }
  if (count % 2 === 0) return -1;
  const [last] = new Uint16Array(own.buffer, own.byteOffset + 2 * (count - 1), 1);
  return (last! & exponent) === exponent ? count - 1 : -1;
}

/** The error of a tensor that holds what no sum survives. */
export function nonFinite(path: string, name: string, element: number): ModelError {
  return new ModelError(
    "TENSOR_NOT_FINITE",
    `${path}: tensor "${name}": element ${element} is NaN or infinite, expected a finite number`,
    {
      hint: "What it takes part in is NaN too: fetch the file again, or take an earlier checkpoint. --allow-non-finite (training.allowNonFinite, allowNonFinite) goes on as it is.",
    },
  );
}

/**
 * The same tensors, of which no float is NaN or infinite where it is read; or, with `allow`, whatever they are.
 * @throws ModelError TENSOR_NOT_FINITE from every read of such a tensor
 */
export function finiteTensors<S extends TensorSource>(source: S, allow: boolean): S {
  if (allow) return { ...source, allowsNonFinite: true };
  // The codes of a quantized weight may be stored as floats (bnb_4bit_quant_storage), and are none.
  const dtypeOf = (name: string): SafetensorsDType | undefined =>
    source.tensors.has(`${name}.absmax`) ? "U8" : source.tensors.get(name)?.dtype;
  const check = (name: string, bytes: Uint8Array, offset: number): void => {
    const dtype = dtypeOf(name);
    if (dtype === undefined) return;
    const bad = firstNonFinite(bytes, dtype);
    if (bad >= 0) throw nonFinite(source.pathOf(name), name, bad + offset / (isFloat(dtype) ? BYTES[dtype] : 1));
  };
  return {
    ...source,
    unchecked: source,
    async read(name) {
      const bytes = await source.read(name);
      check(name, bytes, 0);
      return bytes;
    },
    async readInto(name, target, offset = 0) {
      if (!isFloat(dtypeOf(name))) return source.readInto(name, target, offset);
      // The target may be memory of the GPU, which is written fast and read a thousand times slower.
      const own = new Uint8Array(Math.min(PIECE_BYTES, target.length));
      for (let at = 0; at < target.length; at += own.length) {
        const piece = own.subarray(0, Math.min(own.length, target.length - at));
        await source.readInto(name, piece, offset + at);
        check(name, piece, offset + at);
        target.set(piece, at);
      }
    },
    async *stream(name, chunkBytes) {
      let offset = 0;
      for await (const piece of source.stream(name, chunkBytes)) {
        check(name, piece, offset);
        offset += piece.byteLength;
        yield piece;
      }
    },
  };
}

/** @throws ModelError TENSOR_NOT_FINITE for the first value that is NaN or infinite */
export function requireFinite(path: string, values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
  for (const [name, { buffer, byteOffset, byteLength }] of values) {
    const bad = firstNonFinite(new Uint8Array(buffer, byteOffset, byteLength), "F32");
    if (bad >= 0) throw nonFinite(path, name, bad);
  }
}
