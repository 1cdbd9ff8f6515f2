import type { Checkpointing } from "../../core/compute/blocks.ts";
import type { MemoryBudget } from "../device/budget.ts";
import type { MemoryAccount } from "./account.ts";
import { reasonOf, shortage } from "./format.ts";
import type {
  MemoryFigures,
  MemorySettings,
  MemoryMode,
  UserSettings,
  FavoredSettings,
  MemoryPlan,
} from "./settings.ts";

/**
 * Estimated time of a step, 1 for the fastest; from Gemma-2-9B on an H100 (docs/performance.md): every block checkpointed
 * costs 45 %, a micro-batch as much as 700 tokens beside its own (530 with weights kept dequantized).
 */
function cost(settings: MemorySettings, blocks: number, batchTokens: number): number {
  const { checkpointing, keepDequantized, embeddings, tokenBudget = Infinity } = settings;
  const tokens = Math.min(batchTokens, tokenBudget);
  const recomputed = checkpointedBlocks(checkpointing, blocks) / Math.max(1, blocks);
  return (1 + 0.45 * recomputed) * (1 + (keepDequantized ? 530 : 700) / tokens) * (embeddings === "host" ? 1.01 : 1);
}

/** How many blocks run again in backward. */
export function checkpointedBlocks(checkpointing: Checkpointing, blocks: number): number {
  if (checkpointing === "none") return 0;
  return checkpointing === "block" ? blocks : Math.min(checkpointing, blocks);
}

/** A number of blocks in the words of the option. */
function named(count: number, blocks: number): Checkpointing {
  return count === 0 ? "none" : count >= blocks ? "block" : count;
}

/** What a mode fixes; undefined: as few blocks as the rest needs. */
const CHECKPOINTING: Readonly<Record<MemoryMode, Checkpointing | undefined>> = {
  lean: "block",
  fast: "none",
  auto: undefined,
};

/**
 * Plans one piece of work.
 * @param keeps whether keeping dequantized weights makes a difference on this device
 * @throws DeviceError MEMORY_SHORT where nothing that the user left open fits
 */
export async function planMemory(
  account: MemoryAccount,
  { mode, given, budget, keeps, favored }: PlanRequest,
): Promise<MemoryPlan> {
  const blocks = await account.blocks();
  const { batchTokens } = account;
  const limit = budget.bytes ?? Infinity;
  const planOf = (settings: MemorySettings, figures: MemoryFigures, reason: string): MemoryPlan => {
    const tokens = Math.min(batchTokens, settings.tokenBudget ?? Infinity);
    return { mode, settings, figures, budget, blocks, batchTokens: tokens, reason };
  };
  if (favored !== undefined) {
    const figures = await account.measure(favored.settings);
    if ("peak" in figures && figures.peak <= limit) return planOf(favored.settings, figures, favored.reason);
  }
  const open = openChoices(given, mode, { keeps, known: budget.bytes !== undefined, account });
  const checkpointing = given.checkpointing ?? CHECKPOINTING[mode];
  const choices = open
    .map((choice): MemorySettings => ({ ...choice, checkpointing: checkpointing ?? "none" }))
    .map((settings) => ({ settings, floor: cost(settings, blocks, batchTokens) }));
  // All of lean is small; it takes the first that fits: micro-batches whole, then in ever smaller cuts. The others take the fastest first.
  if (mode !== "lean") choices.sort((a, b) => a.floor - b.floor);

  /** @param pool bytes at which the pool is given up, which costs time at every step */
  const search = async (pool: number): Promise<Fitting | undefined> => {
    let best: Fitting | undefined;
    const measure = async (settings: MemorySettings): Promise<number> => {
      const figures = await account.measure(settings, pool);
      if (!("peak" in figures)) return Infinity;
      const price = cost(settings, blocks, batchTokens);
      if (figures.peak <= limit && (best === undefined || price < best.cost)) best = { settings, figures, cost: price };
      return figures.peak;
    };
    for (const { settings, floor } of choices) {
      if (best !== undefined && (mode === "lean" || floor >= best.cost)) break;
      const none = await measure(settings);
      if (none <= limit || checkpointing !== undefined) continue;
      const every = await measure({ ...settings, checkpointing: "block" });
      if (every > limit) continue;
      await fewest({ none, every, blocks, limit }, async (count) => {
        const some = { ...settings, checkpointing: named(count, blocks) };
        // What would be slower than what is found need not be measured.
        return best !== undefined && cost(some, blocks, batchTokens) > best.cost ? undefined : measure(some);
      });
    }
    return best;
  };
  const best = (await search(Infinity)) ?? (limit === Infinity ? undefined : await search(limit));
  if (best === undefined) {
    const settings = smallest(open, checkpointing);
    throw shortage(account.work, given, budget, await account.measure(settings, limit), settings);
  }
  return planOf(best.settings, best.figures, reasonOf(mode, given, budget));
}

/** Settings that fit. */
interface Fitting {
  readonly settings: MemorySettings;
  readonly figures: MemoryFigures;
  readonly cost: number;
}

const smallest = (open: readonly Choice[], checkpointing: Checkpointing = "block"): MemorySettings => ({
  ...open.at(-1)!,
  checkpointing,
});

/** What is planned for. */
export interface PlanRequest {
  readonly mode: MemoryMode;
  readonly given: UserSettings;
  readonly budget: MemoryBudget;
  readonly keeps: boolean;
  /** Taken where they fit. */
  readonly favored?: FavoredSettings | undefined;
}

type Choice = Omit<MemorySettings, "checkpointing">;

/** Every combination of what is left open but for checkpointing; the one with the least memory last. */
function openChoices(
  given: UserSettings,
  mode: MemoryMode,
  { keeps, known, account }: { readonly keeps: boolean; readonly known: boolean; readonly account: MemoryAccount },
): Choice[] {
  const { placement } = given;
  const { longest, batchTokens, evalTokens } = account;
  const embeddings: Choice["embeddings"][] =
    placement === undefined
      ? ["device"]
      : placement.embeddings !== undefined
        ? [placement.embeddings]
        : mode === "lean"
          ? ["host"]
          : mode === "auto" && known
            ? ["device", "host"]
            : ["device"];
  const keep =
    placement?.keepDequantized !== undefined
      ? [placement.keepDequantized]
      : placement !== undefined && keeps && known && mode !== "lean"
        ? [true, false]
        : [false];
  const budgets: (number | undefined)[] = [given.tokenBudget];
  // Where the memory is not known, a single buffer may still be too large: the first that is not wins.
  if (given.tokenBudget === undefined && given.resumed !== true) {
    if (evalTokens > batchTokens) budgets.push(batchTokens); // cuts evaluation only
    for (let tokens = batchTokens / 2; tokens > longest; tokens /= 2) budgets.push(Math.ceil(tokens));
    if (longest < batchTokens) budgets.push(longest);
  }
  return embeddings.flatMap((place) =>
    budgets.flatMap((tokenBudget) =>
      keep.map((keepDequantized) => ({ tokenBudget, embeddings: place, keepDequantized })),
    ),
  );
}

/**
 * The fewest blocks to checkpoint so that the rest fits: memory falls nearly evenly with each, so that the first guess is
 * within one of the answer.
 * @param none, every peak bytes with no block checkpointed (too many) and with every block (few enough)
 * @param measure peak bytes with so many of the blocks; undefined ends the search
 */
async function fewest(
  { none, every, blocks, limit }: Readonly<Record<"none" | "every" | "blocks" | "limit", number>>,
  measure: (count: number) => Promise<number | undefined>,
): Promise<void> {
  let [low, high] = [0, blocks]; // low does not fit, high does
  let [above, below] = [none, every];
  while (high - low > 1) {
    const guess = Number.isFinite(above) ? low + Math.ceil(((above - limit) / (above - below)) * (high - low)) : 0;
    const count = Math.min(high - 1, Math.max(low + 1, guess));
    const peak = await measure(count);
    if (peak === undefined) return;
    if (peak <= limit) [high, below] = [count, peak];
    else [low, above] = [count, peak];
  }
}
