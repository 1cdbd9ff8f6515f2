/** Folds as scikit-learn's GroupKFold, StratifiedKFold and StratifiedGroupKFold deal them, without shuffling. */

/** The fold of each row. */
export type Folds = Uint32Array;

/** Numbers of values in sorted order, as numpy's unique gives them; strings by code points. */
function encode<T extends string | number>(
  values: readonly T[],
): { readonly codes: Uint32Array; readonly counts: number[] } {
  const sorted = [...new Set(values)].sort((a, b) =>
    typeof a === "string" ? compareText(a, b as string) : Number(a) - Number(b),
  );
  const places = new Map(sorted.map((value, index) => [value, index]));
  const codes = Uint32Array.from(values, (value) => places.get(value)!);
  const counts = sorted.map(() => 0);
  for (const code of codes) counts[code]!++;
  return { codes, counts };
}

/** Python compares code points; UTF-16 puts those beyond U+FFFF before some below. */
function compareText(a: string, b: string): number {
  if (a === b) return 0;
  let at = 0;
  while (a.codePointAt(at) === b.codePointAt(at)) at += a.codePointAt(at)! > 0xffff ? 2 : 1;
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}

/** The largest groups first, each to the fold that has the fewest rows: no group is in two folds. */
export function groupFolds(groups: readonly string[], nSplits: number): Folds {
  const { codes, counts } = encode(groups);
  // As numpy's argsort turned around: of two that are equal, the later comes first.
  const order = counts
    .map((_, group) => group)
    .sort((a, b) => counts[a]! - counts[b]! || a - b)
    .toReversed();
  const rows = Array.from({ length: nSplits }, () => 0);
  const foldOf = new Uint32Array(counts.length);
  for (const group of order) {
    const lightest = rows.indexOf(Math.min(...rows));
    rows[lightest]! += counts[group]!;
    foldOf[group] = lightest;
  }
  return codes.map((group) => foldOf[group]!);
}

/** Every fold has the share of each class that all rows have, as near as can be. */
export function stratifiedFolds(labels: readonly number[], nSplits: number): Folds {
  // Classes by when they come first, so that the folds of rows in the same order do not depend on the classes' numbers.
  const first = new Map<number, number>();
  for (const label of labels) if (!first.has(label)) first.set(label, first.size);
  const codes = labels.map((label) => first.get(label)!);
  const sorted = codes.toSorted((a, b) => a - b);
  // Of each class, how many every fold takes: rows sorted by class are dealt in turn.
  const allocation = Array.from({ length: nSplits }, () => Array.from(first, () => 0));
  sorted.forEach((code, i) => allocation[i % nSplits]![code]!++);
  const next = Array.from(first, () => ({ fold: 0, taken: 0 }));
  return Uint32Array.from(codes, (code) => {
    const at = next[code]!;
    while (at.taken === allocation[at.fold]![code]) [at.fold, at.taken] = [at.fold + 1, 0];
    at.taken++;
    return at.fold;
  });
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Standard deviation of the whole, as numpy's. */
function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

/** As numpy's isclose with its tolerances. */
const isClose = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-8 + 1e-5 * Math.abs(b);

/** No group is in two folds, and folds have the classes' shares as far as that allows: greedily, the most uneven groups first. */
export function stratifiedGroupFolds(labels: readonly number[], groups: readonly string[], nSplits: number): Folds {
  const classes = encode(labels);
  const { codes, counts } = encode(groups);
  const perGroup = counts.map(() => classes.counts.map(() => 0));
  codes.forEach((group, row) => perGroup[group]![classes.codes[row]!]!++);
  const spread = perGroup.map(deviation);
  const order = counts.map((_, group) => group).sort((a, b) => spread[b]! - spread[a]! || a - b);
  const perFold = Array.from({ length: nSplits }, () => classes.counts.map(() => 0));
  const foldOf = new Uint32Array(counts.length);
  for (const group of order) {
    foldOf[group] = bestFold(perFold, perGroup[group]!, classes.counts);
    perGroup[group]!.forEach((count, label) => (perFold[foldOf[group]!]![label]! += count));
  }
  return codes.map((group) => foldOf[group]!);
}

/** The fold by which the classes' shares stay most even; of those alike, the one with the fewest rows. */
function bestFold(
  perFold: readonly (readonly number[])[],
  group: readonly number[],
  totals: readonly number[],
): number {
  let [best, least, fewest] = [0, Infinity, Infinity];
  for (const [fold, own] of perFold.entries()) {
    const uneven = mean(
      totals.map((total, label) =>
        deviation(perFold.map((counts, other) => (counts[label]! + (other === fold ? group[label]! : 0)) / total)),
      ),
    );
    const rows = own.reduce((sum, count, label) => sum + count + group[label]!, 0);
    const better = uneven < least || (isClose(uneven, least) && rows < fewest);
    if (better) [best, least, fewest] = [fold, uneven, rows];
  }
  return best;
}
