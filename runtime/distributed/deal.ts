/** Who computes what: every rank deals alike, so nothing need be said. */

/**
 * Positions dealt to `ranks`: longest first, each to the rank that has the fewest tokens. A rank may get nothing.
 * @param lengths tokens of each sample
 * @returns for each rank, positions in `lengths`, ascending
 */
export function dealByTokens(lengths: ArrayLike<number>, ranks: number): number[][] {
  const shares = Array.from({ length: ranks }, () => ({ members: [] as number[], tokens: 0 }));
  const longestFirst = Array.from(lengths, (_, position) => position).sort(
    (a, b) => lengths[b]! - lengths[a]! || a - b,
  );
  for (const position of longestFirst) {
    const least = shares.reduce((best, share) => (share.tokens < best.tokens ? share : best));
    least.members.push(position);
    least.tokens += lengths[position]!;
  }
  return shares.map(({ members }) => members.sort((a, b) => a - b));
}

/**
 * Whole batches dealt to `ranks` in the same way.
 * @param batches positions in `lengths`
 * @returns for each rank, positions in `batches`, ascending
 */
export function dealBatches(
  batches: readonly (readonly number[])[],
  lengths: ArrayLike<number>,
  ranks: number,
): number[][] {
  return dealByTokens(
    batches.map((members) => members.reduce((sum, row) => sum + lengths[row]!, 0)),
    ranks,
  );
}
