import { afterAll } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Bytes read from a file as the f32 values they hold. */
export function f32(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  return new Float32Array(bytes.slice().buffer);
}

/** True where two arrays hold the same bytes, NaN and -0 included. */
export function sameBits(a: ArrayBufferView, b: ArrayBufferView): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}

export function sha256(data: ArrayBufferView): string {
  return createHash("sha256")
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest("hex");
}

/** A folder of its own for a test file, removed when its tests are over. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "qlora-formats-"));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** What a promise rejects with; fails where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected a rejection");
}

/** A header entry of a safetensors file. */
export interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: number[];
}

/** A safetensors file cut into its header as an object and its data. */
export function splitHeader(bytes: Buffer): { json: Record<string, HeaderEntry>; data: Buffer } {
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return { json: JSON.parse(bytes.subarray(8, end).toString()), data: bytes.subarray(end) };
}

/** The reverse of {@link splitHeader}, with no check of any kind. */
export function joinHeader(json: object, data: Uint8Array): Buffer {
  const text = Buffer.from(JSON.stringify(json));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  return Buffer.concat([length, text, data]);
}
