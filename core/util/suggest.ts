/** Nearest-name suggestions for unknown options, flags, commands and plugins. */

import { theirName } from "./their-names.ts";

/** Edits (insert, delete, replace, swap of neighbors) that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const replace = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = best;
    }
  }
  return rows[a.length]![b.length]!;
}

/** Name as it is compared: case, dashes and underscores do not count. */
const folded = (name: string): string => name.toLowerCase().replaceAll(/[-_]/g, "");

/** The candidate nearest to `name`, or undefined where none is near enough to be a slip of the fingers. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = folded(name);
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of candidates) {
    const other = folded(candidate);
    // So many letters must be put in or taken out at least; a key of 100,000 letters is no slip of the fingers.
    if (Math.abs(other.length - wanted.length) >= bestDistance) continue;
    const distance = editDistance(wanted, other);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** More keys than this are counted, not named. */
const MAX_TOLD = 20;
const short = (name: string): string => (name.length > 80 ? `${name.slice(0, 77)}...` : name);

/** What stands here for an option of transformers or peft that is not `known`; undefined for a name of neither. */
function theirOption(key: string, known: readonly string[]): string | undefined {
  const theirs = theirName(key);
  if (theirs === undefined) return undefined;
  const { ours, name, library, note } = theirs;
  if (ours === undefined) return `; ${library} has it, qlora has not: ${note}`;
  const [, option = ""] = ours.split(".");
  const more = note === undefined ? "" : ` (${note})`;
  return known.includes(option)
    ? `; did you mean "${option}"?${more}`
    : `; ${library}${library.endsWith("s") ? "'" : "'s"} ${name} is ${ours} here${more}`;
}

/** A problem for each key of `given` that is not `known`, by its place `at`. @param what such as `option` */
export function unknownKeys(
  given: object,
  known: readonly string[],
  what: string,
  at = (key: string): string => key,
): string[] {
  const strange = Object.keys(given).filter((key) => !known.includes(key));
  const told = strange.slice(0, MAX_TOLD).map((key) => {
    const theirs = what === "option" ? theirOption(key, known) : undefined;
    return `${at(short(key))}: unknown ${what}${theirs ?? suggestion(key, known)}`;
  });
  return strange.length > told.length ? [...told, `${strange.length - told.length} more are unknown`] : told;
}

/** `; did you mean "rank"?`, or nothing where nothing is near: for a message that lists the candidates already. */
export function didYouMean(name: string, candidates: readonly string[]): string {
  const near = nearestName(name, candidates);
  return near === undefined ? "" : `; did you mean "${near}"?`;
}

/** `; did you mean "rank"?`, or the whole list where nothing is near, or nothing where there is no list. */
export function suggestion(name: string, candidates: readonly string[]): string {
  const near = nearestName(name, candidates);
  if (near !== undefined) return `; did you mean "${near}"?`;
  return candidates.length === 0 ? "" : `; expected one of ${candidates.join(", ")}`;
}
