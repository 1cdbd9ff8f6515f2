/** How many values are NaN or infinite. */
export function countNonFiniteReference(values: ArrayLike<number>): number {
  return Array.from(values).filter((value) => !Number.isFinite(value)).length;
}
