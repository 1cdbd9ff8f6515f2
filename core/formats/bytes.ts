/** Bytes of others, wherever they are: core reads files through these two interfaces and never asks on which host it runs. */

/** Bytes that are read by ranges: a file on disk, one behind an address, a Blob. */
export interface ByteSource {
  /** What messages call it: a path or an address. */
  readonly name: string;
  readonly size: number;
  /** `length` bytes from `offset` on; fewer where the source ends before. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target` without a buffer between, where the host can; returns how many bytes it wrote, fewer at the end. */
  readInto?(offset: number, target: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** The files of a checkpoint or of an adapter. */
export interface Folder {
  /** What messages call it. */
  readonly name: string;
  has(file: string): Promise<boolean>;
  /** Undefined where there is no such file. @throws what the host says of a file that it cannot open */
  open(file: string): Promise<ByteSource | undefined>;
}

/** The files of a folder that is to be written, in that order: text, or bytes in pieces that are made as they are asked for. */
export type FilesToWrite = readonly (readonly [file: string, content: string | AsyncIterable<Uint8Array>])[];

/** True for the name of a file, and no path. */
export const isFileName = (text: string): boolean => !["", ".", ".."].includes(text) && !/[\\/\0]/.test(text);

/** What a model may ask of the machine that it is loaded on. */
export interface Host {
  /** The folder of a checkpoint, by the path that the config's `checkpoint` was brought to. */
  openFolder(path: string): Folder;
}

/** What messages call a file of a folder. */
export const pathIn = (folder: Folder, file: string): string => `${folder.name}/${file}`;

/**
 * Fills `target` from byte `offset` on.
 * @returns how many bytes there were; fewer than asked for where the source ends
 */
export async function readInto(source: ByteSource, offset: number, target: Uint8Array): Promise<number> {
  if (source.readInto !== undefined) return source.readInto(offset, target);
  const bytes = await source.read(offset, target.byteLength);
  target.set(bytes);
  return bytes.byteLength;
}

/** The text of a small file; undefined where there is none. @throws as `Folder.open` */
export async function readText(folder: Folder, file: string): Promise<string | undefined> {
  const source = await folder.open(file);
  if (source === undefined) return undefined;
  try {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(await source.read(0, source.size));
  } finally {
    await source.close();
  }
}

/** Order of two texts by their UTF-8 bytes, which is Python's order of str. */
export function compareBytes(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
  const shared = Math.min(left.length, right.length);
  for (let i = 0; i < shared; i++) if (left[i] !== right[i]) return left[i]! - right[i]!;
  return left.length - right.length;
}
