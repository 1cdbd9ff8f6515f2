/** Sizes of pooled buffers, and which size a pooled buffer may serve. */

/** A pooled buffer serves sizes down to this share of its own. */
export const MIN_UTILIZATION = 0.75;

/** The same where memory is short. */
export const MIN_UTILIZATION_WHEN_SHORT = 0.25;

/** Bytes between the size classes around so many. */
const classStep = (bytes: number): number => (bytes <= 2048 ? 256 : 2 ** (Math.floor(Math.log2(bytes)) - 3));

/**
 * Size classes, eight to an octave: a pooled buffer wastes at most an eighth, and batches of nearly equal token counts
 * meet the same buffers again, so bind groups stay cached.
 */
export function sizeClass(bytes: number): number {
  const step = classStep(bytes);
  return Math.max(256, Math.ceil(bytes / step) * step);
}

/** The size class that a buffer of so many bytes can serve: the largest that is no larger. */
export function classOf(bytes: number): number {
  const step = classStep(bytes);
  return Math.floor(bytes / step) * step;
}
