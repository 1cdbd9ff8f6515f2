/** Widths of a Gemma-2 block. */
export interface BlockShape {
  readonly hidden: number;
  readonly intermediate: number;
  readonly queries: number;
  readonly keys: number;
}

export const BLOCKS: Readonly<Record<"2b" | "9b" | "27b", BlockShape>> = {
  "2b": { hidden: 2304, intermediate: 9216, queries: 2048, keys: 1024 },
  "9b": { hidden: 3584, intermediate: 14336, queries: 4096, keys: 2048 },
  "27b": { hidden: 4608, intermediate: 36864, queries: 4096, keys: 2048 },
};

/** A linear by its widths, and how many of it a block has. */
export interface LinearShape {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly count: number;
}

export function linearsOf({ hidden, intermediate, queries, keys }: BlockShape): LinearShape[] {
  return [
    { name: "q", inFeatures: hidden, outFeatures: queries, count: 1 },
    { name: "k,v", inFeatures: hidden, outFeatures: keys, count: 2 },
    { name: "o", inFeatures: queries, outFeatures: hidden, count: 1 },
    { name: "gate,up", inFeatures: hidden, outFeatures: intermediate, count: 2 },
    { name: "down", inFeatures: intermediate, outFeatures: hidden, count: 1 },
  ];
}

/** Linears that share an input: their input gradients are one product. */
export interface GroupShape {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: readonly number[];
  /** How many of them the seed's adapter wraps, from the first on. */
  readonly adapted: number;
}

export function groupsOf({ hidden, intermediate, queries, keys }: BlockShape): GroupShape[] {
  return [
    { name: "q,k,v", inFeatures: hidden, outFeatures: [queries, keys, keys], adapted: 3 },
    { name: "o", inFeatures: queries, outFeatures: [hidden], adapted: 1 },
    { name: "gate,up", inFeatures: hidden, outFeatures: [intermediate, intermediate], adapted: 1 },
    { name: "down", inFeatures: intermediate, outFeatures: [hidden], adapted: 0 },
  ];
}
