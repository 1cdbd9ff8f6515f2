import type { UpcomingBatch } from "../compute/batch.ts";
import type { Gpu } from "./gpu.ts";

/** A pooled buffer serves sizes down to this share of its own where memory is short. */
export const LEAST_FILL_WHEN_SHORT = 0.25;

/** Buffers smaller than this do not count. */
const SMALL_BYTES = 65_536;

/** What a device's memory holds between two batches, in bytes. */
export interface HeldBytes {
  readonly used: number;
  readonly pooled: number;
  /** Destroyed, but perhaps still used by the GPU. */
  readonly going: number;
  readonly limit: number;
}

/**
 * Whether a batch finds room beside what the GPU may still use. A buffer that is destroyed stays in the driver's hands
 * until the GPU has done the work that uses it, and the host is a batch ahead: a batch of new sizes would hold its own
 * buffers and its predecessor's at once. What it will need is estimated from batches before it.
 */
export class BatchRoom {
  /** The batch under way, and whether the pool holds the buffers of one with gradients, of one without. */
  #batch: { readonly training: boolean; readonly tokens: number } | undefined;
  readonly #met = new Set<UpcomingBatch["training"]>();
  /** What the first training batch with an empty pool left in it. */
  #left: { readonly bytes: number; readonly tokens: number } | undefined;
  /** What was asked of a buffer by the largest batch that used it. */
  readonly #asked = new WeakMap<GPUBuffer, { readonly bytes: number; readonly tokens: number }>();

  /** A buffer was handed out for so many bytes. */
  handed(buffer: GPUBuffer, bytes: number): void {
    const tokens = this.#batch?.tokens ?? 0;
    if (tokens > 0 && tokens >= (this.#asked.get(buffer)?.tokens ?? 0)) this.#asked.set(buffer, { bytes, tokens });
  }

  /** All of the pool was given up. */
  trimmed(): void {
    this.#met.clear();
    if (this.#batch !== undefined) this.#met.add(this.#batch.training);
  }

  /**
   * Called before a batch: `wait` where what was destroyed must be gone first, `trim` where the pool must
   * go too.
   */
  begin(
    { lengths, training }: UpcomingBatch,
    pool: Iterable<GPUBuffer>,
    { used, pooled, going, limit }: HeldBytes,
  ): "wait" | "trim" | undefined {
    // A training step holds all that a forward pass needs, not the other way round.
    const known = this.#met.has(training) || this.#met.has(true);
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    const last = this.#batch;
    if (last?.training === true) this.#left ??= { bytes: pooled, tokens: last.tokens };
    this.#batch = { training, tokens };
    this.#met.add(training);
    if (pooled + going === 0 || limit === Infinity) return undefined;
    const fresh = known ? this.#fresh(tokens, pool) : Infinity;
    if (used + pooled + going + fresh <= limit) return undefined;
    if (fresh === 0) return "wait";
    this.#left = undefined;
    return "trim";
  }

  /**
   * Bytes that a batch will ask for, in proportion to one before, and that the pool does not serve: buffers that will be
   * too small or far too large are told by what the largest batch asked of them.
   */
  #fresh(tokens: number, pool: Iterable<GPUBuffer>): number {
    let [serving, missing] = [0, 0];
    for (const buffer of pool) {
      const asked = this.#asked.get(buffer);
      if (asked === undefined || buffer.size < SMALL_BYTES) continue;
      const bytes = (asked.bytes * tokens) / asked.tokens;
      if (bytes > buffer.size || bytes < buffer.size * LEAST_FILL_WHEN_SHORT) missing += bytes;
      else serving += buffer.size;
    }
    if (this.#left === undefined) return missing;
    const need = (this.#left.bytes * tokens) / this.#left.tokens;
    return Math.min(missing, Math.max(0, need - serving));
  }
}

/**
 * Called before a batch. Where its buffers may not fit beside those that the GPU still uses, waits for
 * it and gives up the pool; else resolves at once.
 * @throws DeviceError as `Gpu.idle`
 */
export async function makeRoom(gpu: Gpu, batch: UpcomingBatch): Promise<void> {
  const first = gpu.memory.begin(batch);
  if (first === undefined) return;
  await gpu.idle();
  if (first === "wait") return;
  gpu.memory.trim();
  await gpu.idle(); // the driver frees what it was given back
}
