/** Where a rank was when it failed: what nobody could tell from its error alone. */
import { rankName } from "./agree.ts";
import type { World } from "./world.ts";

/** How far a rank is; kept up to date while it works. */
export interface RankPlace {
  /** Optimizer step under way; undefined before the first. */
  step: number | undefined;
  /** Newest checkpoint that is whole. */
  checkpoint: string | undefined;
}

const places = new WeakMap<object, string>();

/** Remembers where an error came up. @returns the error */
export function atPlace(error: unknown, world: World, { step, checkpoint }: RankPlace): unknown {
  if (world.size === 1 || typeof error !== "object" || error === null) return error;
  const parts = [
    rankName(world, world.rank),
    ...(step === undefined
      ? []
      : [`step ${step}, ${checkpoint === undefined ? "no checkpoint yet" : `last checkpoint ${checkpoint}`}`]),
  ];
  places.set(error, parts.join(", "));
  return error;
}

/** `rank 1 on node7, step 12, last checkpoint output/checkpoint-10`; undefined for an error of a process alone. */
export const placeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null ? places.get(error) : undefined;
