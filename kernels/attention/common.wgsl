// Shared by the attention kernels. Row i of a packed batch sees the keys j of its sample with
// i - window < j <= i. A workgroup works on a tile of TILE rows of one head.

const TILE = 32u;
const BLOCK = 256 / THREADS; // in products of rows, a thread computes a block of BLOCK x 4
const GROUPS = THREADS / D4; // in the tile's result, a group of threads holds OWN rows, each thread one vec4 of them
const OWN = (TILE + GROUPS - 1) / GROUPS;

/** tanh, accurate near zero (where exp(2x) - 1 would cancel) and safe for large arguments. */
fn tanh_of(x: f32) -> f32 {
  let square = x * x;
  let series = x + x * square * (-1.0 / 3.0 + square * (2.0 / 15.0 + square * (-17.0 / 315.0 + square * (62.0 / 2835.0))));
  let far = 1.0 - 2.0 / (exp(2.0 * clamp(x, -20.0, 20.0)) + 1.0);
  return select(far, series, square < 0.0625);
}

/** A score from a product q.k: scaled, and soft-capped where `softcap` is not 0. */
fn score_of(product: f32) -> f32 {
  let score = product * params.scale;
  if (params.softcap > 0.0) {
    return params.softcap * tanh_of(score / params.softcap);
  }
  return score;
}

/** Derivative of `score_of` by the product, given the score. */
fn slope_of(score: f32) -> f32 {
  if (params.softcap > 0.0) {
    let t = score / params.softcap;
    return params.scale * (1.0 - t * t);
  }
  return params.scale;
}

/** Whether the query at `row`, whose sample starts at `start`, sees the key at `key`. */
fn sees(row: u32, start: u32, key: u32) -> bool {
  return key <= row && key >= start && row - key < params.window;
}
