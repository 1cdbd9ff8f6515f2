/** Element types. `bf16` exists only as storage for tables; kernels unpack it from u32 words. */
export type DType = "f32" | "f16" | "bf16" | "u32" | "u8";

const BYTES: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, u32: 4, u8: 1 };

/** Bytes of one element. */
export function bytesPerElement(dtype: DType): number {
  return BYTES[dtype];
}

/** A typed range of a GPU buffer. No views, no strides: row-major and dense. */
export interface Tensor {
  readonly buffer: GPUBuffer;
  /** Byte offset of element 0; a multiple of 256. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** True for one of several tensors in a buffer; a tensor that is not may have room behind its last element. */
  readonly part?: boolean | undefined;
  /** Shown in errors and profiles. */
  readonly label: string;
}

/** Number of elements of a shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Bytes that a tensor's elements take, rounded up to whole 4-byte words. */
export function byteSize(tensor: Pick<Tensor, "shape" | "dtype">): number {
  return Math.ceil((elementCount(tensor.shape) * BYTES[tensor.dtype]) / 4) * 4;
}

/** `bytes` without those behind the last whole 4-byte word. No `& ~3`: that is negative from 2^31 on. */
export function wholeWords(bytes: number): number {
  return bytes - (bytes % 4);
}

/** The f32 or f16 tensor of this shape that lies in `whole` from element `first` on. @throws RangeError where it does not */
export function partOf(whole: Tensor, first: number, shape: readonly number[], label: string): Tensor {
  const start = first * bytesPerElement(whole.dtype);
  const part: Tensor = { ...whole, part: true, offset: whole.offset + start, shape, label };
  if (part.offset % 256 !== 0 || start + byteSize(part) > byteSize(whole)) {
    throw new RangeError(`${describe(part)}: no place for it from element ${first} of ${describe(whole)} on`);
  }
  return part;
}

/** `label [2,3] f32`, for messages. */
export function describe(tensor: Tensor): string {
  return `${tensor.label} [${tensor.shape.join(",")}] ${tensor.dtype}`;
}

/**
 * Throws unless `tensor` has this shape (-1 matches any size) and one of these dtypes.
 * Launchers call it first: a kernel never runs on a shape that nobody checked.
 * @throws RangeError naming the tensor, what it is and what was expected
 */
export function expectTensor(tensor: Tensor, shape: readonly number[], ...dtypes: readonly DType[]): void {
  const fits = tensor.shape.length === shape.length && shape.every((n, i) => n === -1 || tensor.shape[i] === n);
  if (fits && (dtypes.length === 0 || dtypes.includes(tensor.dtype))) return;
  const want = `[${shape.map((n) => (n === -1 ? "any" : n)).join(",")}] ${dtypes.join(" or ")}`;
  throw new RangeError(`tensor ${describe(tensor)}: expected ${want.trim()}`);
}

/** Sizes of a matrix `[rows, columns]`. */
export function matrixShape(tensor: Tensor): readonly [rows: number, columns: number] {
  const [rows, columns] = tensor.shape;
  if (tensor.shape.length !== 2 || rows === undefined || columns === undefined) {
    throw new RangeError(`tensor ${describe(tensor)}: expected two dimensions`);
  }
  return [rows, columns];
}
