import { DeviceError } from "../errors.ts";
import type { BatchShape } from "./batch-shape.ts";
import { Headroom } from "./headroom.ts";
import { classOf, MIN_UTILIZATION, MIN_UTILIZATION_WHEN_SHORT, sizeClass } from "./size-class.ts";

/** What a GPU buffer is for; bytes are counted by it. */
export type Purpose = "weights" | "adapter" | "gradients" | "optimizer" | "activations" | "scratch" | "data";

/** Bytes in use now, at the highest point, and kept ready for reuse. */
export interface MemoryReport {
  readonly byPurpose: Readonly<Record<Purpose, number>>;
  /** Bytes held by live tensors. */
  readonly used: number;
  /** Bytes of buffers waiting in the pool. */
  readonly pooled: number;
  /** Highest `used + pooled` so far. */
  readonly peak: number;
  /** Bytes held by live tensors when these held most. */
  readonly byPurposeAtPeak: Readonly<Record<Purpose, number>>;
}

interface Block {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly purpose: Purpose;
}

const STORAGE = 0x80 | 0x4 | 0x8; // STORAGE | COPY_SRC | COPY_DST

/** Buffers that live as long as the model are made once: rounding them up to a class would only take memory (5 % of 9B's weights). */
const PERSISTENT: ReadonlySet<Purpose> = new Set(["weights", "adapter", "gradients", "optimizer"]);

/** A pool smaller than this is never given up. */
const MAX_POOLED_BYTES = 256 * 2 ** 20;

/** Owns every GPU buffer: allocates, reuses, counts. */
export class Memory {
  /**
   * The pool is given up before buffers in use and pooled ones pass it together; a batch begins where it is expected to
   * stay below it with those that the GPU may still use. Default: no limit.
   */
  limit = Infinity;

  readonly #device: GPUDevice;
  /**
   * Pooled buffers by size class, the oldest last. The oldest is taken first, so that a step like the one before meets the same
   * buffers in the same places, and with them the bind groups that were made for it.
   */
  readonly #free = new Map<number, GPUBuffer[]>();
  readonly #ages = new WeakMap<GPUBuffer, number>();
  /** When each pooled buffer was freed. */
  readonly #freed = new WeakMap<GPUBuffer, number>();
  #frees = 0;
  readonly #live = new Map<GPUBuffer, Block>();
  readonly #bytes: Record<Purpose, number> = {
    weights: 0,
    adapter: 0,
    gradients: 0,
    optimizer: 0,
    activations: 0,
    scratch: 0,
    data: 0,
  };
  readonly #beforeTrim: (all: boolean) => void;
  /** Told of each buffer that is handed out, with what frees it where it is still the same allocation. */
  onAlloc: ((release: () => void) => void) | undefined;
  #created = 0;
  #used = 0;
  #pooled = 0;
  #peak = 0;
  #peakUsed = 0;
  #atPeak = { ...this.#bytes };
  #mostUsed = 0;
  /** Bytes ever destroyed, and those of them that the GPU has passed: the driver keeps a buffer until then. */
  #destroyed = 0;
  #passed = 0;
  readonly #room = new Headroom();

  /** @param beforeTrim hands encoded work to the queue and, where all of the pool goes, drops bind groups */
  constructor(device: GPUDevice, beforeTrim: (all: boolean) => void) {
    this.#device = device;
    this.#beforeTrim = beforeTrim;
  }

  /**
   * A storage buffer of at least `bytes`, perhaps one used before: its contents are undefined.
   * @throws DeviceError where one buffer would exceed the adapter's limit
   */
  alloc(bytes: number, purpose: Purpose, label: string): GPUBuffer {
    const size = PERSISTENT.has(purpose) ? Math.max(256, Math.ceil(bytes / 256) * 256) : sizeClass(bytes);
    const limit = this.#device.limits.maxBufferSize;
    if (size > limit) {
      throw new DeviceError(
        "BUFFER_TOO_LARGE",
        `${label} needs a buffer of ${size} bytes; this adapter allows ${limit}`,
        {
          hint: "Lower the token budget or split the tensor.",
        },
      );
    }
    const buffer = this.#reuse(size, MIN_UTILIZATION) ?? this.#create(size, label);
    this.#room.recordUse(buffer, bytes);
    const block: Block = { buffer, bytes: buffer.size, purpose };
    this.#live.set(buffer, block);
    this.onAlloc?.(() => {
      // A buffer freed and handed out again is another block.
      if (this.#live.get(block.buffer) === block) this.free(block.buffer);
    });
    this.#bytes[purpose] += buffer.size;
    this.#used += buffer.size;
    this.#mostUsed = Math.max(this.#mostUsed, this.#used);
    this.#peak = Math.max(this.#peak, this.#used + this.#pooled);
    if (this.#used > this.#peakUsed) this.#markUsed();
    return buffer;
  }

  /**
   * The smallest pooled buffer that is large enough and not much larger: batches differ in their tokens, and a pool that
   * matched sizes exactly would hold a set of buffers for each.
   */
  #reuse(size: number, leastFill: number): GPUBuffer | undefined {
    for (let at = classOf(size); at * leastFill <= size; at = sizeClass(at + 1)) {
      const list = this.#free.get(at) ?? [];
      const index = list.findLastIndex((buffer) => buffer.size >= size && buffer.size * leastFill <= size);
      const [buffer] = index < 0 ? [] : list.splice(index, 1);
      if (buffer === undefined) continue;
      this.#pooled -= buffer.size;
      return buffer;
    }
    return undefined;
  }

  /** Makes a buffer; where the pool has come to hold what other sizes needed, a larger one serves, or the pool is given up. */
  #create(size: number, label: string): GPUBuffer {
    const need = Math.max(this.#mostUsed, this.#used + size);
    const hoarded = this.#pooled > need / 4 && this.#used + this.#pooled + size > need * 1.1;
    const excess = this.#used + this.#pooled + size - this.limit;
    if (excess > 0 || (hoarded && this.#pooled > MAX_POOLED_BYTES)) {
      const hopeless = need > this.limit;
      const larger = hopeless ? undefined : this.#reuse(size, MIN_UTILIZATION_WHEN_SHORT);
      if (larger !== undefined) return larger;
      // What is destroyed while the GPU may use it stays for a while: all of it only where all can be recreated beside it.
      if (hopeless || this.#pooled + this.#pendingDestroy + need <= this.limit) this.trim();
      else this.#cancelPending(Math.max(excess, this.#used + this.#pooled + size - need * 1.1));
    }
    const buffer = this.#device.createBuffer({ size, usage: STORAGE, label });
    this.#ages.set(buffer, this.#created++);
    return buffer;
  }

  /** Gives a buffer back to the pool. The queue runs in order, so work already encoded may still use it. */
  free(buffer: GPUBuffer): void {
    const block = this.#live.get(buffer);
    if (block === undefined)
      throw new RangeError(`buffer ${buffer.label} is not live: freed twice, or not from this allocator`);
    this.#live.delete(buffer);
    this.#bytes[block.purpose] -= block.bytes;
    this.#used -= block.bytes;
    this.#pooled += block.bytes;
    this.#freed.set(buffer, this.#frees++);
    const pool = classOf(block.bytes);
    const list = this.#free.get(pool);
    if (list === undefined) this.#free.set(pool, [buffer]);
    else list.splice(this.#place(list, buffer), 0, buffer);
  }

  /** Where a buffer belongs in a list whose oldest comes last. */
  #place(list: readonly GPUBuffer[], buffer: GPUBuffer): number {
    const age = this.#ages.get(buffer)!;
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ages.get(list[middle]!)! > age) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Destroys the pooled buffers. */
  trim(): void {
    if (this.#pooled === 0) return;
    this.#room.reduced();
    this.#beforeTrim(true);
    for (const buffer of this.#poolBuffers()) buffer.destroy();
    this.#destroyed += this.#pooled;
    this.#free.clear();
    this.#pooled = 0;
  }

  /** Destroys at least so many bytes of the pool, or all of it; what has lain there longest goes first. */
  #cancelPending(bytes: number): void {
    if (bytes >= this.#pooled) return this.trim();
    this.#room.reduced();
    this.#beforeTrim(false);
    const pooled = this.#poolBuffers().toSorted((a, b) => this.#freed.get(a)! - this.#freed.get(b)!);
    let given = 0;
    for (const buffer of pooled) {
      if (given >= bytes) break;
      const list = this.#free.get(classOf(buffer.size))!;
      list.splice(list.indexOf(buffer), 1);
      buffer.destroy();
      given += buffer.size;
    }
    this.#pooled -= given;
    this.#destroyed += given;
  }

  #poolBuffers(): GPUBuffer[] {
    return [...this.#free.values()].flat();
  }

  /** Bytes destroyed that the driver may still hold. */
  get #pendingDestroy(): number {
    return this.#destroyed - this.#passed;
  }

  /** Called before a batch: what must happen first, for it to find room. See `Headroom`. */
  begin(batch: BatchShape): "wait" | "trim" | undefined {
    const held = { used: this.#used, pooled: this.#pooled, pendingDestroy: this.#pendingDestroy, limit: this.limit };
    return this.#room.begin(batch, this.#poolBuffers(), held);
  }

  /** Awaits `done`, which resolves once the GPU has done all work submitted so far, then counts destroyed buffers as freed. */
  async settle(done: Promise<unknown>): Promise<void> {
    const destroyed = this.#destroyed;
    await done;
    this.#passed = Math.max(this.#passed, destroyed);
  }

  /** Destroys everything. */
  destroy(): void {
    for (const { buffer } of this.#live.values()) buffer.destroy();
    this.#live.clear();
    this.trim();
  }

  report(): MemoryReport {
    return {
      byPurpose: { ...this.#bytes },
      used: this.#used,
      pooled: this.#pooled,
      peak: this.#peak,
      byPurposeAtPeak: { ...this.#atPeak },
    };
  }

  #markUsed(): void {
    this.#peakUsed = this.#used;
    this.#atPeak = { ...this.#bytes };
  }

  /** Starts a new peak measurement. */
  resetPeak(): void {
    this.#peak = this.#used + this.#pooled;
    this.#mostUsed = this.#used;
    this.#markUsed();
  }
}
