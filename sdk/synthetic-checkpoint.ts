/**
 * Checkpoints of published shapes with random weights in the exact format: for benchmarks, and to try loading at size without a
 * download. A folder of one is files as any other's, whose bytes are made when they are read.
 */
import type { ByteSource, Folder } from "../core/formats/bytes.ts";
import { createDynamicMap } from "../core/formats/dynamic-map.ts";
import { f32ToBf16 } from "../core/formats/half.ts";
import { NESTED_BLOCK_SIZE, DEFAULT_BLOCK_SIZE, nf4CodeBook } from "../core/formats/nf4.ts";
import { formatHeader, type TensorInfo } from "../core/formats/safetensors-header.ts";
import { missingTensor, type TensorSource } from "../core/formats/safetensors.ts";
import type { BaseTensorSpec } from "../core/formats/weights.ts";

/** How the random weights are scaled. */
export interface SyntheticOptions {
  readonly seed: number;
  /** Largest weight of a block is about this; the published models have some 0.05. Default 0.05. */
  readonly absmax?: number;
  /** 1 + w of the norms that end a sublayer, to drive the residual stream up. Default 1. */
  readonly normScale?: number;
  /** 1 where a norm multiplies by 1 + weight, as Gemma's do. */
  readonly normOffset: 0 | 1;
  /** How linears are stored. Default nf4, double-quantized. */
  readonly dtype?: "nf4" | "bf16" | undefined;
}

const NOISE_BYTES = 1 << 24;

/** Bytes `begin` to `end` of a tensor; recreated, the same each time. */
type Part = (begin: number, end: number) => Uint8Array<ArrayBuffer>;

/**
 * Random tensors of an outline: every name, dtype and shape that a bitsandbytes checkpoint of it has.
 * @param rows the outline's `baseParameters`
 */
export function syntheticSource(
  rows: readonly BaseTensorSpec[],
  { seed, absmax = 0.05, normScale = 1, normOffset, dtype = "nf4" }: SyntheticOptions,
): TensorSource {
  const makers = new Map<string, { readonly info: TensorInfo; readonly part: Part }>();
  const noise = noiseBytes(seed);
  let at = 0;
  const add = (name: string, dtype: TensorInfo["dtype"], shape: readonly number[], bytes: number, part: Part): void => {
    makers.set(name, { info: { dtype, shape, begin: at, end: at + bytes }, part });
    at += bytes;
  };
  const vector = (name: string, size: number): void => {
    const level = name.endsWith(".bias") ? 0 : (name.includes("post_") ? normScale : 1) - normOffset;
    const values = Float32Array.from({ length: size }, (_, i) => level + 0.1 * Math.sin(i + name.length));
    add(name, "BF16", [size], size * 2, whole(bytesOf(f32ToBf16(values))));
  };
  const halves = bf16Noise(noise);
  const map = bytesOf(createDynamicMap(true));
  const book = bytesOf(nf4CodeBook);
  for (const { name, shape } of rows) {
    const [out = 0, columns] = shape;
    if (name === "score.weight") continue;
    if (columns === undefined) {
      vector(name, out);
      continue;
    }
    const elements = out * columns;
    const layer = Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? -1);
    if (layer < 0) add(name, "BF16", shape, elements * 2, noisePart(halves, 7));
    else if (dtype === "bf16") add(name, "BF16", shape, elements * 2, noisePart(halves, elements + layer));
    else {
      const blocks = Math.ceil(elements / DEFAULT_BLOCK_SIZE);
      const nested = Math.ceil(blocks / NESTED_BLOCK_SIZE);
      const state = new TextEncoder().encode(
        `{"quant_type": "nf4", "blocksize": ${DEFAULT_BLOCK_SIZE}, "dtype": "bfloat16", "shape": [${out}, ${columns}], ` +
          `"nested_blocksize": ${NESTED_BLOCK_SIZE}, "nested_dtype": "float32", "nested_offset": ${absmax}}`,
      );
      const levels = whole(bytesOf(new Float32Array(nested).fill(absmax / 4)));
      add(name, "U8", [Math.ceil(elements / 2), 1], Math.ceil(elements / 2), noisePart(noise, elements + layer));
      add(`${name}.absmax`, "U8", [blocks], blocks, noisePart(noise, blocks + layer));
      add(`${name}.nested_absmax`, "F32", [nested], nested * 4, levels);
      add(`${name}.nested_quant_map`, "F32", [256], 1024, whole(map));
      add(`${name}.quant_map`, "F32", [16], 64, whole(book));
      add(`${name}.quant_state.bitsandbytes__nf4`, "U8", [state.length], state.length, whole(state));
    }
  }

  const read = (name: string, begin = 0, end?: number): Uint8Array<ArrayBuffer> => {
    const found = makers.get(name);
    if (found === undefined) throw missingTensor("synthetic checkpoint", name);
    const size = found.info.end - found.info.begin;
    return found.part(begin, Math.min(end ?? size, size));
  };
  return {
    tensors: new Map([...makers].map(([name, { info }]) => [name, info])),
    pathOf: () => "synthetic checkpoint",
    read: async (name) => read(name),
    readInto: async (name, target, offset = 0) => target.set(read(name, offset, offset + target.length)),
    async *stream(name, chunkBytes) {
      const size = makers.has(name) ? makers.get(name)!.info.end - makers.get(name)!.info.begin : 0;
      for (let start = 0; start < size; start += chunkBytes) yield read(name, start, start + chunkBytes);
    },
    close: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

/**
 * A checkpoint's folder of such tensors.
 * @param source called when the weights are opened
 */
export function syntheticFolder(
  name: string,
  config: Readonly<Record<string, unknown>>,
  source: () => Promise<TensorSource>,
): Folder {
  const files = new Map<string, () => Promise<ByteSource>>([
    ["config.json", async () => bytesAsFile(`${name}/config.json`, new TextEncoder().encode(JSON.stringify(config)))],
    ["model.safetensors", async () => tensorsAsFile(`${name}/model.safetensors`, await source())],
  ]);
  return { name, has: async (file) => files.has(file), open: async (file) => files.get(file)?.() };
}

const bytesAsFile = (name: string, bytes: Uint8Array<ArrayBuffer>): ByteSource => ({
  name,
  size: bytes.length,
  read: async (offset, length) => bytes.slice(offset, offset + length),
  close: async () => {},
});

/** A safetensors file: its header, then the tensors in the order in which the source has them. */
function tensorsAsFile(name: string, source: TensorSource): ByteSource {
  const tensors = [...source.tensors];
  const header = formatHeader(tensors, {});
  const ends = tensors.map(([, { end }]) => end);
  const size = header.length + (ends.at(-1) ?? 0);
  const readInto = async (offset: number, target: Uint8Array): Promise<number> => {
    const length = Math.min(target.length, size - offset);
    let done = Math.max(0, Math.min(length, header.length - offset));
    target.set(header.subarray(offset, offset + done));
    let next = tensors.findIndex(([, { end }]) => end > offset + done - header.length);
    for (; done < length; next++) {
      const [tensor, { begin, end }] = tensors[next]!;
      const at = offset + done - header.length;
      const piece = target.subarray(done, done + Math.min(length - done, end - at));
      await source.readInto(tensor, piece, at - begin);
      done += piece.length;
    }
    return length;
  };
  const read = async (offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)));
    await readInto(offset, bytes);
    return bytes;
  };
  return { name, size, read, readInto, close: async () => {} };
}

function whole(bytes: Uint8Array<ArrayBuffer>): Part {
  return (begin, end) => bytes.slice(begin, end);
}

function bytesOf(
  array: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Readonly<Float32Array>,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength).slice();
}

/** Random bytes to cut slices from (xorshift32): recreating gigabytes would take longer than loading them. */
function noiseBytes(seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(NOISE_BYTES / 4);
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state >>> 0;
  }
  return new Uint8Array(words.buffer);
}

/** Pieces of the noise from a start of the tensor's own. */
function noisePart(noise: Uint8Array<ArrayBuffer>, salt: number): Part {
  const start = (Math.imul(salt, 0x9e3779b1) >>> 9) * 2; // even: the noise may hold 16-bit numbers
  return (begin, end) => {
    const out = new Uint8Array(end - begin);
    for (let done = 0; done < out.length;) {
      const from = (start + begin + done) % noise.length;
      const piece = noise.subarray(from, from + Math.min(out.length - done, noise.length - from));
      out.set(piece, done);
      done += piece.length;
    }
    return out;
  };
}

/** The noise as bf16 numbers near 0.02: their exponent is set, sign and mantissa are random. */
function bf16Noise(noise: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const halves = new Uint16Array(noise.slice().buffer);
  for (let i = 0; i < halves.length; i++) halves[i] = 0x3c80 | (halves[i]! & 0x803f);
  return new Uint8Array(halves.buffer);
}
