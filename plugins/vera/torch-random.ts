/** Draws of torch's generator on a CPU, so that projections which PEFT leaves out of a file are the ones that it would draw. */

const SIZE = 624;
const PERIOD = 397;

/** The Mersenne Twister of Matsumoto and Nishimura (1998), mt19937, seeded as torch.Generator().manual_seed does. */
function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(SIZE);
  state[0] = seed;
  for (let i = 1; i < SIZE; i++) {
    const before = state[i - 1]!;
    state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
  }
  let at = SIZE;
  const refill = (): void => {
    for (let i = 0; i < SIZE; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % SIZE]! & 0x7fffffff);
      state[i] = state[(i + PERIOD) % SIZE]! ^ (y >>> 1) ^ ((y & 1) === 0 ? 0 : 0x9908b0df);
    }
    at = 0;
  };
  return () => {
    if (at === SIZE) refill();
    let y = state[at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  };
}

/**
 * `torch.Generator().manual_seed(seed)`, of which `uniform_` takes values: 24 bits of each draw, as f32 in [low, high).
 * Source: pytorch, aten/src/ATen/core/MT19937RNGEngine.h and TransformationHelper.h.
 * @param seed of which torch takes the lower 32 bits
 */
export function torchUniform(seed: number): (count: number, low: number, high: number) => Float32Array<ArrayBuffer> {
  const next = mersenneTwister(seed);
  return (count, low, high) => {
    const [from, width] = [Math.fround(low), Math.fround(Math.fround(high) - Math.fround(low))];
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = (next() & 0xffffff) * 2 ** -24 * width + from;
    return values;
  };
}
