/**
 * How far correctly rounded results may lie from exact ones at worst, element by element. An average over a matrix is
 * sharper, but a single result (or three) has nothing to average over, and may be small beside what it is the sum of.
 */
type Float = "f32" | "f16";

/** Half a unit in the last place, relative to the number: what rounding to the nearest moves it by at most. */
const UNIT = { f32: 2 ** -24, f16: 2 ** -11 } as const satisfies Record<Float, number>;

/** Half the distance of the numbers next to zero. */
const SMALLEST = { f32: 2 ** -127, f16: 2 ** -25 } as const satisfies Record<Float, number>;

/** From this many results on, an averaged bound holds: their roundings scatter by less than a tenth. */
export const ENOUGH_TO_AVERAGE = 64;

/**
 * Errors of sums of `depth` products, formed in f32 and in any order: depth - 1 additions, a product, and two operations
 * more (a factor, an addition to what is there), each 2^-24 of no more than the sum of the magnitudes.
 * @param magnitudes of each sum, the sum of its terms' magnitudes
 * @param read the type that one operand of each product is rounded to as it is read, where it is stored in a wider one;
 * a driver may leave that rounding out, so it is allowed for either way: it moves a product by its unit
 */
export function sumErrors(magnitudes: ArrayLike<number>, depth: number, read: Float = "f32"): Float64Array {
  const share = (depth + 2) * UNIT.f32 + (read === "f16" ? UNIT.f16 : 0);
  return Float64Array.from(magnitudes, (magnitude) => share * magnitude);
}

/** Errors of results that were off by `errors` at most and are then stored in a type: its unit of what is stored is added. */
export function storedErrors(errors: ArrayLike<number>, want: ArrayLike<number>, type: Float): Float64Array {
  return Float64Array.from(errors, (e, i) => e + UNIT[type] * (Math.abs(want[i]!) + e) + SMALLEST[type]);
}
