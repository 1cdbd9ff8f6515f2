/** Seeded numbers for first values of parameters: the same on every machine, and independent of the order of creation. */

/** A stream of u32 draws fixed by (seed, name): sfc32 (PractRand) seeded by an FNV-1a hash of the name. */
function stream(seed: number, name: string): () => number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  let [a, b, c, counter] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, hash >>> 0, 1];
  const next = (): number => {
    const sum = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = (b ^ (b >>> 9)) >>> 0;
    b = (c + (c << 3)) >>> 0;
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0;
    return sum;
  };
  for (let i = 0; i < 20; i++) next();
  return next;
}

/** `count` draws from U(-bound, bound). */
export function uniformValues(count: number, bound: number, seed: number, name: string): Float32Array<ArrayBuffer> {
  const next = stream(seed, name);
  return Float32Array.from({ length: count }, () => bound * ((next() + 0.5) / 2 ** 31 - 1));
}

/** `count` draws from N(0, deviation²), by Box and Muller. */
export function normalValues(count: number, deviation: number, seed: number, name: string): Float32Array<ArrayBuffer> {
  const next = stream(seed, name);
  return Float32Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log((next() + 0.5) / 2 ** 32));
    return deviation * radius * Math.cos((2 * Math.PI * (next() + 0.5)) / 2 ** 32);
  });
}
