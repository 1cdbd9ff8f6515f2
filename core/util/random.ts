/** Seeded numbers for first values of parameters: the same on every machine, and independent of the order of creation. */
import { sfc32 } from "./sfc32.ts";

/** A stream of u32 draws fixed by (seed, name): the name's FNV-1a hash is the key. */
function stream(seed: number, name: string): () => number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return sfc32(seed, hash);
}

/** A loop, as `Float32Array.from` takes six times as long. */
function drawn(count: number, draw: () => number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = draw();
  return values;
}

/** `count` draws from U(-bound, bound). */
export function uniformValues(count: number, bound: number, seed: number, name: string): Float32Array<ArrayBuffer> {
  const next = stream(seed, name);
  return drawn(count, () => bound * ((next() + 0.5) / 2 ** 31 - 1));
}

/** `count` draws from N(0, deviation²), by Box and Muller. */
export function normalValues(count: number, deviation: number, seed: number, name: string): Float32Array<ArrayBuffer> {
  const next = stream(seed, name);
  return drawn(count, () => {
    const radius = Math.sqrt(-2 * Math.log((next() + 0.5) / 2 ** 32));
    return deviation * radius * Math.cos((2 * Math.PI * (next() + 0.5)) / 2 ** 32);
  });
}
