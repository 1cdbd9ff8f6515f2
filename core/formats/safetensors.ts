/** Safetensors files: read tensor by tensor, never held whole, and made of the very bytes that the format's own serializer writes. */
import { ModelError } from "../errors.ts";
import { type ByteSource, type Folder, pathIn, readInto as fill } from "./bytes.ts";
import { hintFor, kindOf, kindOfFile } from "./file-kind.ts";
import {
  fileOrder,
  formatHeader,
  invalidFile,
  MAX_HEADER_BYTES,
  parseHeader,
  tensorBytes,
  type TensorInfo,
  type TensorSpec,
} from "./safetensors-header.ts";

/** Bytes of one read call; Linux itself stops at 2 GiB. */
const READ_BYTES = 1 << 28;

/** Something that hands out tensors by name: one file, or a checkpoint of several. */
export interface TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** True where NaN and infinite values are to be read as they are; see `finiteTensors`. */
  readonly allowsNonFinite?: boolean | undefined;
  /** Where reads look for such values: the same tensors without. */
  readonly unchecked?: TensorSource | undefined;
  /** The file that holds a tensor, for messages. */
  pathOf(name: string): string;
  /**
   * All bytes of a tensor, in a buffer of its own.
   * @throws ModelError TENSOR_MISSING, or SAFETENSORS_INVALID where the file has shrunk
   */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target` with the tensor's bytes from byte `offset` of the tensor on. @throws ModelError as {@link read} */
  readInto(name: string, target: Uint8Array, offset?: number): Promise<void>;
  /** The tensor's bytes in pieces of `chunkBytes`, the last one shorter. @throws ModelError as {@link read} */
  stream(name: string, chunkBytes: number): AsyncGenerator<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An open safetensors file. */
export interface SafetensorsFile extends TensorSource {
  readonly path: string;
  /** The header's `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Opens a safetensors file of a folder: reads and checks its header, no tensor yet.
 * @throws ModelError SAFETENSORS_MISSING, or SAFETENSORS_INVALID naming the file and, where one is to blame, the tensor
 */
export async function openSafetensors(folder: Folder, file: string): Promise<SafetensorsFile> {
  const path = pathIn(folder, file);
  const missing = async (reason: string, cause?: unknown): Promise<ModelError> => {
    const pickle = await kindOfFile(folder, file.replace(/\.safetensors$/, ".bin"));
    return new ModelError("SAFETENSORS_MISSING", `${path}: cannot be opened (${reason})`, {
      hint: pickle?.weightsHint ?? "Check the path of the checkpoint or adapter.",
      cause,
    });
  };
  const source = await folder.open(file).catch(async (error: unknown) => {
    throw await missing((error as Error).message, error);
  });
  if (source === undefined) throw await missing("there is no such file");
  return readSafetensors(source);
}

/** The same of bytes that are open; closing the file closes them. @throws ModelError SAFETENSORS_INVALID */
export async function readSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  try {
    return await readOpen(source);
  } catch (error) {
    const kind = await kindOf(source);
    await source.close();
    if (kind === undefined || !(error instanceof ModelError)) throw error;
    throw new ModelError(error.code, `${source.name}: is ${kind.name}, expected a safetensors file`, {
      hint: hintFor(kind.weightsHint, source.name),
      cause: error,
    });
  }
}

async function readOpen(source: ByteSource): Promise<SafetensorsFile> {
  const { name: path, size } = source;
  if (size < 8) throw invalidFile(path, `has ${size} bytes, fewer than the 8 that hold the header's length`);
  const prefix = new Uint8Array(8);
  await readFully(source, prefix, 0);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES)
    throw invalidFile(path, `says its header has ${length} bytes; it is no safetensors file`);
  if (8 + length > size) throw invalidFile(path, `says its header has ${length} bytes, but the file has only ${size}`);
  const json = new Uint8Array(length);
  await readFully(source, json, 8);
  const { tensors, metadata } = parseHeader(path, json, size);

  const find = (name: string): TensorInfo => {
    const info = tensors.get(name);
    if (info === undefined) throw missingTensor(path, name);
    return info;
  };
  const readInto = async (name: string, target: Uint8Array, offset = 0) => {
    const { begin, end } = find(name);
    if (offset < 0 || begin + offset + target.byteLength > end) {
      throw new RangeError(`${name}: bytes ${offset} to ${offset + target.byteLength} of ${end - begin}`);
    }
    await readFully(source, target, begin + offset, name);
  };
  const close = () => source.close();
  return {
    path,
    metadata,
    tensors,
    pathOf: () => path,
    readInto,
    close,
    [Symbol.asyncDispose]: close,
    async read(name) {
      const { begin, end } = find(name);
      const bytes = new Uint8Array(end - begin);
      await readInto(name, bytes);
      return bytes;
    },
    async *stream(name, chunkBytes) {
      const { begin, end } = find(name);
      for (let offset = 0; offset < end - begin; offset += chunkBytes) {
        const piece = new Uint8Array(Math.min(chunkBytes, end - begin - offset));
        await readInto(name, piece, offset);
        yield piece;
      }
    },
  };
}

/** The error for a tensor that a file or checkpoint does not hold. */
export function missingTensor(path: string, name: string): ModelError {
  return new ModelError("TENSOR_MISSING", `${path}: there is no tensor ${JSON.stringify(name)}`, {
    hint: "The checkpoint is of another architecture, or not whole.",
  });
}

async function readFully(source: ByteSource, target: Uint8Array, position: number, tensor?: string): Promise<void> {
  for (let done = 0; done < target.byteLength;) {
    const piece = target.subarray(done, Math.min(target.byteLength, done + READ_BYTES));
    const bytesRead = await fill(source, position + done, piece);
    if (bytesRead === 0)
      throw invalidFile(source.name, `ends at byte ${position + done}, inside what should be there`, tensor);
    done += bytesRead;
  }
}

/** A tensor to write; `data` may be made only when its turn comes, whole or in pieces, so that one at a time is in memory. */
export interface TensorToWrite extends TensorSpec {
  readonly data: ArrayBufferView | (() => Promise<ArrayBufferView | AsyncIterable<Uint8Array>>);
}

/**
 * The bytes of a safetensors file, equal to those that Python's safetensors writes.
 * @param tensors by name, in any order
 * @param metadata the header's `__metadata__`; PEFT and transformers write `{ format: "pt" }`
 * @throws RangeError where a name is taken, and, as the pieces come, where the data does not fit dtype and shape
 */
export function safetensorsBytes(
  tensors: Iterable<readonly [string, TensorToWrite]>,
  metadata: Readonly<Record<string, string>> = {},
): AsyncIterable<Uint8Array> {
  const ordered = fileOrder(tensors);
  const taken = new Set(["__metadata__"]);
  for (const [name] of ordered) {
    if (taken.has(name)) throw new RangeError(`${name}: not a free tensor name`);
    taken.add(name);
  }
  return piecesOf(ordered, metadata);
}

async function* piecesOf(
  ordered: readonly (readonly [string, TensorToWrite])[],
  metadata: Readonly<Record<string, string>>,
): AsyncGenerator<Uint8Array> {
  yield formatHeader(ordered, metadata);
  for (const [name, tensor] of ordered) {
    const data = typeof tensor.data === "function" ? await tensor.data() : tensor.data;
    let bytes = 0;
    for await (const piece of Symbol.asyncIterator in data ? data : [data]) {
      bytes += piece.byteLength;
      yield new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
    }
    if (bytes !== tensorBytes(tensor)) {
      const kind = `${tensor.dtype} [${tensor.shape.join(",")}]`;
      throw new RangeError(`${name}: ${bytes} bytes for ${kind}, expected ${tensorBytes(tensor)}`);
    }
  }
}
