/**
 * A stream of u32 draws fixed by a seed and a 32-bit key: Chris Doty-Humphrey's sfc32 (PractRand), run in by twenty draws.
 * @param seed a whole number from 0, up to 2^53
 */
export function sfc32(seed: number, key: number): () => number {
  // Signed words: the engine keeps those as integers, where unsigned ones of 2^31 and more become doubles.
  let [a, b, c, counter] = [seed | 0, Math.floor(seed / 2 ** 32) | 0, key | 0, 1];
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 20; i++) next();
  return next;
}
