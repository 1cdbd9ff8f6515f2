/** The header of a safetensors file on the hub, without its tensors: a few hundred kilobytes that tell what gigabytes are. */
import { MAX_HEADER_BYTES, parseHeader, type TensorInfo } from "../../core/formats/safetensors-header.ts";
import type { DownloadContext, RemoteFile } from "./download.ts";
import { ask } from "./http.ts";

/** More than most headers have. */
const FIRST_BYTES = 512 * 1024;

/**
 * Tensors of a remote file by name; undefined where its first bytes do not come, which the download itself then tells.
 * @throws ModelError SAFETENSORS_INVALID for a file that is none, or where the hub refuses
 */
export async function remoteTensors(
  context: DownloadContext,
  { target, url, size }: RemoteFile,
): Promise<ReadonlyMap<string, TensorInfo> | undefined> {
  const { hub, signal } = context;
  const path = `${target.id}/${target.file}`;
  const firstBytes = async (count: number): Promise<Uint8Array | undefined> => {
    const end = Math.min(count, size);
    const response = await ask(hub, target, url, { headers: { range: `bytes=0-${end - 1}` }, signal });
    return firstOf(response, end).catch((error: unknown) => {
      if (signal.aborted) throw error;
      return undefined;
    });
  };
  let bytes = await firstBytes(FIRST_BYTES);
  if (bytes === undefined || bytes.length < 8) return undefined;
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES || 8 + length > size) return undefined;
  if (8 + length > bytes.length) bytes = await firstBytes(8 + length);
  if (bytes === undefined || bytes.length < 8 + length) return undefined;
  return parseHeader(path, bytes.subarray(8, 8 + length), size).tensors;
}

/** The first bytes of an answer, whose rest is not waited for: a server that knows no ranges sends everything. */
async function firstOf(response: Response, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  const reader = (response.body ?? new Blob([]).stream()).getReader();
  let at = 0;
  while (at < count) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes.set(value.subarray(0, count - at), at);
    at += Math.min(value.length, count - at);
  }
  await reader.cancel();
  return bytes.subarray(0, at);
}
