import type { Slab } from "qlora/core";

/** Matrices of one shape within a slab, few enough to be orthogonalized together. */
export interface Chunk {
  readonly rows: number;
  readonly columns: number;
  /** Place of its first matrix in the slab's table of starts. */
  readonly first: number;
  readonly matrices: number;
}

/** 64 MiB for each of the two copies of a chunk that the iteration needs. */
const CHUNK_ELEMENTS = 2 ** 24;

/** Groups a slab's matrices by shape; `starts` [matrices] u32 holds their first elements, chunk by chunk. */
export function chunksOf(slab: Slab): { readonly chunks: readonly Chunk[]; readonly starts: Uint32Array<ArrayBuffer> } {
  const chunks: Chunk[] = [];
  const starts: number[] = [];
  for (const members of Map.groupBy(slab.parameters, (p) => p.shape.join()).values()) {
    const [rows, columns] = members[0]!.shape as readonly [number, number];
    const most = Math.max(1, Math.floor(CHUNK_ELEMENTS / (rows * columns)));
    for (let at = 0; at < members.length; at += most) {
      const part = members.slice(at, at + most);
      chunks.push({ rows, columns, first: starts.length, matrices: part.length });
      starts.push(...part.map((p) => p.start));
    }
  }
  return { chunks, starts: Uint32Array.from(starts) };
}
