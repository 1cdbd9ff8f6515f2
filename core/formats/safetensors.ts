/**
 * Safetensors files: read tensor by tensor, never held whole, and written with the very bytes that the format's own
 * serializer writes.
 */
import { open, type FileHandle } from "node:fs/promises";
import { hintFor, kindOfFile } from "../../runtime/files/file-kind.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { ModelError } from "../errors.ts";
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
 * Opens a safetensors file: reads and checks its header, no tensor yet.
 * @throws ModelError SAFETENSORS_MISSING, or SAFETENSORS_INVALID naming the file and, where one is to blame, the tensor
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await open(path, "r").catch(async (error: unknown) => {
    const pickle = path.replace(/\.safetensors$/, ".bin");
    throw new ModelError("SAFETENSORS_MISSING", `${path}: cannot be opened (${(error as Error).message})`, {
      hint: (await kindOfFile(pickle))?.weightsHint ?? "Check the path of the checkpoint or adapter.",
      cause: error,
    });
  });
  try {
    return await openFile(path, file);
  } catch (error) {
    await file.close();
    const kind = await kindOfFile(path);
    if (kind === undefined || !(error instanceof ModelError)) throw error;
    throw new ModelError(error.code, `${path}: is ${kind.name}, expected a safetensors file`, {
      hint: hintFor(kind.weightsHint, path),
      cause: error,
    });
  }
}

async function openFile(path: string, file: FileHandle): Promise<SafetensorsFile> {
  const stat = await file.stat();
  if (!stat.isFile()) throw invalidFile(path, "is not a file");
  const size = stat.size;
  if (size < 8) throw invalidFile(path, `has ${size} bytes, fewer than the 8 that hold the header's length`);
  const prefix = new Uint8Array(8);
  await readFully(path, file, prefix, 0);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES)
    throw invalidFile(path, `says its header has ${length} bytes; it is no safetensors file`);
  if (8 + length > size) throw invalidFile(path, `says its header has ${length} bytes, but the file has only ${size}`);
  const json = new Uint8Array(length);
  await readFully(path, file, json, 8);
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
    await readFully(path, file, target, begin + offset, name);
  };
  const close = () => file.close();
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

async function readFully(
  path: string,
  file: FileHandle,
  target: Uint8Array,
  position: number,
  tensor?: string,
): Promise<void> {
  for (let done = 0; done < target.byteLength;) {
    const { bytesRead } = await file.read(
      target,
      done,
      Math.min(READ_BYTES, target.byteLength - done),
      position + done,
    );
    if (bytesRead === 0)
      throw invalidFile(path, `ends at byte ${position + done}, inside what should be there`, tensor);
    done += bytesRead;
  }
}

/** A tensor to write; `data` may be made only when its turn comes, whole or in pieces, so that one at a time is in memory. */
export interface TensorToWrite extends TensorSpec {
  readonly data: ArrayBufferView | (() => Promise<ArrayBufferView | AsyncIterable<Uint8Array>>);
}

/**
 * Writes a safetensors file, whole or not at all, byte-equal to the one that Python's safetensors writes.
 * @param tensors by name, in any order
 * @param metadata the header's `__metadata__`; PEFT and transformers write `{ format: "pt" }`
 * @throws RangeError where the data does not fit dtype and shape; QloraError where the file cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, TensorToWrite]>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const ordered = fileOrder(tensors);
  const taken = new Set(["__metadata__"]);
  for (const [name] of ordered) {
    if (taken.has(name)) throw new RangeError(`${name}: not a free tensor name`);
    taken.add(name);
  }
  await writeFileAtomic(path, piecesOf(ordered, metadata));
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
