/** What every rank must have alike, compared before anything depends on it. */
import { ConfigError } from "../../core/errors.ts";
import { alone, type Waiting, type World } from "./world.ts";

/** `rank 1 on node7`. */
export const rankName = ({ hosts }: World, rank: number): string =>
  hosts[rank] === undefined || hosts[rank] === "" ? `rank ${rank}` : `rank ${rank} on ${hosts[rank]}`;

/** Every rank's value, in the order of the ranks; plain JSON. */
export async function gatherJson<T>(world: World, waiting: Waiting, value: T): Promise<readonly T[]> {
  if (world === alone) return [value];
  const bytes = await world.gather(new TextEncoder().encode(JSON.stringify([value])), waiting);
  return bytes.map((text) => (JSON.parse(new TextDecoder().decode(text)) as [T])[0]);
}

/** Leaves of `theirs` that `ours` has otherwise. */
function differences(ours: unknown, theirs: unknown, path: string): string[] {
  const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (isObject(ours) && isObject(theirs)) {
    const keys = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
    return keys.flatMap((key) => differences(ours[key], theirs[key], path === "" ? key : `${path}.${key}`));
  }
  const [own, other] = [JSON.stringify(ours) ?? "nothing", JSON.stringify(theirs) ?? "nothing"];
  return own === other ? [] : [`${path}: ${own} on rank 0, but ${other}`];
}

/**
 * Compares a value over all ranks.
 * @param what names it, as in `the config`
 * @throws ConfigError on every rank, naming the first rank that differs from rank 0, and in what
 */
export async function requireAlike(world: World, what: string, value: unknown, hint: string): Promise<void> {
  if (world.size === 1) return;
  const all = await gatherJson(world, { what: `${what} of all ranks` }, value);
  for (const [rank, theirs] of all.entries()) {
    const found = differences(all[0], theirs, "");
    if (found.length === 0) continue;
    const problems = found.map((problem) => `${what}: ${problem} on ${rankName(world, rank)}`);
    throw new ConfigError("RANKS_DIFFER", problems, { hint });
  }
}
