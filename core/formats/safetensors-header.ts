/**
 * The header of a safetensors file: its element types, its JSON, and everything that can be wrong with it.
 * Source: huggingface/safetensors, safetensors/src/tensor.rs (`Dtype`, `Metadata::validate`, `prepare`).
 */
import { ModelError } from "../errors.ts";
import { compareBytes } from "./bytes.ts";
import { isObject, parseJsonObject } from "./json-object.ts";

/** Element types and the bytes of one, in the order that the format's own serializer ranks them. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

/** Element type as the file spells it. */
export type SafetensorsDType = keyof typeof DTYPE_BYTES;

const rank = new Map(Object.keys(DTYPE_BYTES).map((dtype, i) => [dtype, i]));

/** Where a tensor lies and what it is. */
export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One past the last byte, counted from the start of the file. */
  readonly end: number;
}

/** Dtype and shape of a tensor that is to be written. */
export type TensorSpec = Pick<TensorInfo, "dtype" | "shape">;

/** The format's own limit; a larger number means that the file is something else. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes that a tensor of this dtype and shape takes. */
export function tensorBytes({ dtype, shape }: TensorSpec): number {
  return shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype]);
}

/** The order of the file: larger elements first, then names by their UTF-8 bytes. */
export function fileOrder<T extends TensorSpec>(tensors: Iterable<readonly [string, T]>): (readonly [string, T])[] {
  return [...tensors].sort(
    ([nameA, a], [nameB, b]) => rank.get(b.dtype)! - rank.get(a.dtype)! || compareBytes(nameA, nameB),
  );
}

/** Header bytes, the length in front included; `ordered` is in {@link fileOrder}. */
export function formatHeader(
  ordered: readonly (readonly [string, TensorSpec])[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  let offset = 0;
  // Entries are joined by hand: an object would move names that look like integers to the front.
  const entries = ordered.map(([name, spec]) => {
    const begin = offset;
    offset += tensorBytes(spec);
    const info = { dtype: spec.dtype, shape: spec.shape, data_offsets: [begin, offset] };
    return `${JSON.stringify(name)}:${JSON.stringify(info)}`;
  });
  if (Object.keys(metadata).length > 0) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const header = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return header;
}

/**
 * Parses and checks a header: JSON, dtypes, shapes, and that the tensors fill the data part without gap or overlap.
 * @param json the header's bytes without the length in front
 * @param fileBytes size of the whole file
 * @throws ModelError SAFETENSORS_INVALID naming the file and the tensor
 */
export function parseHeader(
  path: string,
  json: Uint8Array,
  fileBytes: number,
): { tensors: Map<string, TensorInfo>; metadata: Record<string, string> } {
  const dataBegin = 8 + json.byteLength;
  const metadata: Record<string, string> = {};
  const tensors: [string, TensorInfo][] = [];
  const header = parseJsonObject(json, (problem) => invalidFile(path, `the header ${problem}`));
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") Object.assign(metadata, parseMetadata(path, entry));
    else tensors.push([name, parseEntry(path, name, entry, dataBegin)]);
  }
  tensors.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkCoverage(path, tensors, dataBegin, fileBytes);
  return { tensors: new Map(tensors), metadata };
}

/** An error about the file as a whole, or about one tensor of it. */
export function invalidFile(path: string, what: string, tensor?: string): ModelError {
  const where = tensor === undefined ? path : `${path}: tensor ${JSON.stringify(tensor)}`;
  return new ModelError("SAFETENSORS_INVALID", `${where}: ${what}`, {
    hint: "The file is damaged or was not downloaded whole; fetch it again and compare its size or checksum.",
  });
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (!isObject(value)) throw invalidFile(path, "__metadata__ is not an object of strings");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw invalidFile(path, `__metadata__.${key} is not a string`);
  }
  return value as Record<string, string>;
}

function parseEntry(path: string, name: string, entry: unknown, dataBegin: number): TensorInfo {
  const problem = (what: string) => invalidFile(path, what, name);
  if (!isObject(entry)) throw problem("its header entry is not an object");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !rank.has(dtype)) {
    throw problem(`dtype ${JSON.stringify(dtype)} is unknown, expected one of ${[...rank.keys()].join(", ")}`);
  }
  if (!isSizes(shape)) throw problem(`shape ${JSON.stringify(shape)} is not a list of sizes`);
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw problem(`data_offsets ${JSON.stringify(offsets)} is not [begin, end]`);
  }
  const spec = { dtype: dtype as SafetensorsDType, shape };
  const [begin, end] = offsets as [number, number];
  const expected = tensorBytes(spec);
  if (end - begin !== expected) {
    const kind = `${dtype} [${shape.join(",")}]`;
    throw problem(`${kind} takes ${expected} bytes, but data_offsets [${begin},${end}] hold ${end - begin}`);
  }
  return { ...spec, begin: dataBegin + begin, end: dataBegin + end };
}

function checkCoverage(
  path: string,
  tensors: readonly (readonly [string, TensorInfo])[],
  dataBegin: number,
  fileBytes: number,
): void {
  let next = dataBegin;
  let before = "the header";
  for (const [name, { begin, end }] of tensors) {
    const at = `data_offsets [${begin - dataBegin},${end - dataBegin}]`;
    if (begin < next) throw invalidFile(path, `${at} overlap ${before}, which ends at ${next - dataBegin}`, name);
    if (begin > next)
      throw invalidFile(path, `${at} leave a gap after ${before}, which ends at ${next - dataBegin}`, name);
    if (end > fileBytes) {
      throw invalidFile(
        path,
        `${at} end beyond the file, which holds ${Math.max(0, fileBytes - dataBegin)} bytes of data`,
        name,
      );
    }
    next = end;
    before = JSON.stringify(name);
  }
  if (next !== fileBytes) throw invalidFile(path, `${fileBytes - next} bytes after ${before} belong to no tensor`);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && (n as number) >= 0);
}
