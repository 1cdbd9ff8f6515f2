/** Byte sources that every host has: addresses that answer ranges, and Blobs. */
import type { ByteSource } from "../../core/formats/bytes.ts";

/**
 * Bytes behind an address, read by ranges.
 * @throws Error where it does not answer, or gives the whole file for a range
 */
export async function openAddress(url: string, ask: typeof fetch = fetch): Promise<ByteSource> {
  const range = async (from: number, to: number): Promise<Response> => {
    const response = await ask(url, { headers: { range: `bytes=${from}-${to}` } });
    if (response.status === 206) return response;
    await response.body?.cancel();
    throw new Error(`${url}: asked for bytes ${from} to ${to}, got status ${response.status}, expected 206`);
  };
  const first = await range(0, 0);
  await first.body?.cancel();
  const size = Number(/\/(\d+)$/.exec(first.headers.get("content-range") ?? "")?.[1]);
  if (!Number.isSafeInteger(size)) throw new Error(`${url}: its content-range does not say how long it is`);
  return {
    name: url,
    size,
    async read(offset, length) {
      const end = Math.min(size, offset + length);
      if (end <= offset) return new Uint8Array(0);
      return new Uint8Array(await (await range(offset, end - 1)).arrayBuffer());
    },
    close: async () => {},
  };
}

/** A Blob's bytes: a file that a page's visitor chose, or one kept in the browser. */
export function openBlob(name: string, blob: Blob): ByteSource {
  return {
    name,
    size: blob.size,
    read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
    close: async () => {},
  };
}
