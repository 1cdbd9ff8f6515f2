import type { BatchShape } from "./batch-shape.ts";
import { MIN_UTILIZATION, sizeClass } from "./size-class.ts";

/** What a device's memory holds between two batches, in bytes. */
export interface HeldBytes {
  readonly used: number;
  readonly pooled: number;
  /** Destroyed, but perhaps still used by the GPU. */
  readonly pendingDestroy: number;
  readonly limit: number;
}

/** What the last batch that used a buffer asked of it, and the token counts of the batches in a row that asked just that. */
interface Asked {
  batch: number;
  bytes: number;
  least: number;
  most: number;
  before: Asked | undefined;
}

/** Shapes are padded to whole tiles of at most so many tokens: batches nearer to each other may ask the same by chance. */
const TILE_TOKENS = 256;

/** An estimate may pass the limit by this share: to wait and begin with an empty pool costs more than it would save. */
const SPARE = 0.03;

/** The buffers that one batch needed, in bytes; `fixed` where batches of other sizes asked the same. */
interface Needs {
  readonly tokens: number;
  readonly sizes: readonly { readonly bytes: number; readonly fixed: boolean }[];
}

/**
 * Whether a batch finds room beside what the GPU may still use. A buffer that is destroyed stays in the driver's hands
 * until the GPU has done the work that uses it, and the host is a batch ahead: a batch of new sizes would hold its own
 * buffers and its predecessor's at once. What it will need is what the largest batch of its kind needed, by its tokens,
 * buffer for buffer: a pool of the right total in the wrong sizes serves nothing.
 */
export class Headroom {
  #batch: { readonly training: boolean; readonly tokens: number } | undefined;
  #count = 0;
  /** Whether the batch under way has asked for buffers. */
  #handed = false;
  /** Whether some of the pool was given up during the batch under way: it shows no longer all that the batch needed. */
  #reduced = false;
  readonly #asked = new WeakMap<GPUBuffer, Asked>();
  /** Of the largest batch with gradients, and of the largest without. */
  readonly #needs = new Map<boolean, Needs>();

  /** A buffer was handed out for so many bytes. */
  recordUse(buffer: GPUBuffer, bytes: number): void {
    const tokens = this.#batch?.tokens ?? 0;
    if (tokens === 0) return;
    this.#handed = true;
    const last = this.#asked.get(buffer);
    if (last?.batch === this.#count) last.bytes = Math.max(last.bytes, bytes);
    else this.#asked.set(buffer, { batch: this.#count, bytes, least: tokens, most: tokens, before: last });
  }

  /** Some or all of the pool was given up. */
  reduced(): void {
    this.#reduced = this.#handed;
  }

  /**
   * Called before a batch: `wait` where what was destroyed must be gone first, `trim` where the pool must
   * go too.
   */
  begin(
    { lengths, training }: BatchShape,
    pool: readonly GPUBuffer[],
    { used, pooled, pendingDestroy, limit }: HeldBytes,
  ): "wait" | "trim" | undefined {
    this.#learn(pool);
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    this.#batch = { training, tokens };
    this.#count++;
    this.#handed = false;
    this.#reduced = false;
    if (pooled + pendingDestroy === 0 || limit === Infinity) return undefined;
    const fresh = this.#fresh(tokens, training, pool);
    if (used + pooled + pendingDestroy + fresh <= limit * (1 + SPARE)) return undefined;
    return fresh === 0 ? "wait" : "trim";
  }

  /** Keeps what the batch before needed, all of which lies in the pool now. */
  #learn(pool: readonly GPUBuffer[]): void {
    const sizes = [];
    for (const buffer of pool) {
      const asked = this.#asked.get(buffer);
      if (asked?.batch !== this.#count) continue;
      if (asked.before?.bytes === asked.bytes) {
        asked.least = Math.min(asked.least, asked.before.least);
        asked.most = Math.max(asked.most, asked.before.most);
      }
      asked.before = undefined;
      sizes.push({ bytes: asked.bytes, fixed: asked.most - asked.least > TILE_TOKENS });
    }
    const last = this.#batch;
    if (last === undefined || (this.#needs.get(last.training)?.tokens ?? 0) > last.tokens) return;
    if (this.#reduced && this.#needs.has(last.training)) return;
    this.#needs.set(last.training, { tokens: last.tokens, sizes });
  }

  /** Bytes that a batch will ask for and the pool does not serve; Infinity where no batch of its kind was met. */
  #fresh(tokens: number, training: boolean, pool: readonly GPUBuffer[]): number {
    // A training step holds all that a forward pass needs, not the other way round.
    const needs = this.#needs.get(training) ?? this.#needs.get(true);
    if (needs === undefined) return Infinity;
    const wanted = needs.sizes
      .map(({ bytes, fixed }) => sizeClass(fixed ? bytes : Math.ceil((bytes * tokens) / needs.tokens)))
      .sort((a, b) => a - b);
    const offered = pool.map(({ size }) => size).sort((a, b) => a - b);
    let [fresh, at] = [0, 0];
    for (const bytes of wanted) {
      while (at < offered.length && offered[at]! < bytes) at++;
      if (at < offered.length && offered[at]! * MIN_UTILIZATION <= bytes) at++;
      else fresh += bytes;
    }
    return fresh;
  }
}
