/** How fast each rank is, and how long it waits for others: what tells an uneven world from a slow one. */

/** A step's sums over all ranks, as far as they tell of speed. */
export interface RankStep {
  /** Tokens of each rank's share. */
  readonly shares: readonly number[];
  /** Seconds that each rank waited for the slowest one. */
  readonly waited: readonly number[];
  /** Seconds from there until the sums were on this rank's GPU. */
  readonly reducing: number;
}

/** Sums since the last log. */
export class RankPace {
  readonly #size: number;
  #tokens: number[];
  #waited: number[];
  #seconds = 0;
  #reducing = 0;

  /** @param size ranks of the world */
  constructor(size: number) {
    this.#size = size;
    this.#tokens = Array.from({ length: size }, () => 0);
    this.#waited = [...this.#tokens];
  }

  /** @param seconds that the step took */
  add({ shares, waited, reducing }: RankStep, seconds: number): void {
    this.#seconds += seconds;
    this.#reducing += reducing;
    shares.forEach((tokens, rank) => (this.#tokens[rank]! += tokens));
    waited.forEach((wait, rank) => (this.#waited[rank]! += wait));
  }

  /** Entries of a line of metrics.jsonl; none in a world of one. A rank's speed is that of its own work, without waiting. */
  takeSinceLog(): Readonly<Record<string, number>> {
    const size = this.#size;
    const [seconds, reducing, tokens, waited] = [this.#seconds, this.#reducing, this.#tokens, this.#waited];
    this.#seconds = this.#reducing = 0;
    this.#tokens = Array.from({ length: size }, () => 0);
    this.#waited = [...this.#tokens];
    if (size === 1 || seconds === 0) return {};
    const perRank = tokens.flatMap((count, rank): [string, number][] => [
      [`rank_${rank}_tokens_per_second`, count / Math.max(seconds - waited[rank]! - reducing, 1e-9)],
      [`rank_${rank}_waiting`, waited[rank]! / seconds],
    ]);
    return { world_size: size, communication: reducing / seconds, ...Object.fromEntries(perRank) };
  }
}
