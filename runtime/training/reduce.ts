/** The seam between backward and clip: gradients, loss and counts of a step become those of all ranks. One rank: they are already. */
import type { Parameter, ParameterSet, Slab } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { partOf, type Tensor } from "../../core/device/tensor.ts";
import { FIRST_PATIENCE, type World } from "../distributed/world.ts";

const MAP_READ = 0x1;
const MAP_WRITE = 0x2;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
/** Few enough bytes that one bucket is on its way while the next is summed, and enough that starting one costs nothing. */
const BUCKET_BYTES = 16 * 2 ** 20;

/** Buckets that are sent, summed or gathered at a time. */
const ON_THE_WAY = 3;

/** What a rank adds to a step's sums. */
export interface StepShare {
  /** Sum of its samples' losses; reads the GPU when it is asked for. */
  readonly lossSum: () => Promise<number>;
  readonly samples: number;
  readonly tokens: number;
}

/** A step's sums over all ranks. */
export interface StepTotals extends StepShare {
  /** Tokens of each rank's share. */
  readonly shares: readonly number[];
  /** Seconds that each rank waited for the slowest one before it could end the step. */
  readonly waited: readonly number[];
  /** Seconds from there until the sums were on this rank's GPU. */
  readonly reducing: number;
}

/** Makes a step's gradients global. */
export interface GradientReducer {
  /** Tells, while the last micro-batch's backward is encoded, that blocks from `block` on get no more gradients. */
  blockDone(block: number): void;
  /**
   * Sums gradients over all ranks, in place; every rank has the same bytes then, whatever the MPI library.
   * @param step for error messages
   */
  reduceGradients(share: StepShare, step: number): Promise<StepTotals>;
  free(): void;
}

/** A range of a slab's gradient that is reduced at once. */
interface Bucket {
  readonly grad: Tensor;
  readonly bytes: number;
  /** No block before this one has gradients in it; undefined where that is not known. */
  readonly block: number | undefined;
}

/** Hugging Face's names count the blocks. */
const blockOf = ({ name }: Pick<Parameter, "name">): number | undefined => {
  const digits = /\.(?:layers|h|blocks?)\.(\d+)\./.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
};

/** Cuts slabs into buckets, in the order in which backward completes them: the last block first, what is in no block at the end. */
export function cutBuckets(slabs: readonly Slab[], bucketBytes = BUCKET_BYTES): readonly Bucket[] {
  const buckets: Bucket[] = [];
  for (const slab of slabs) {
    let from = 0;
    let block: number | undefined;
    slab.parameters.forEach((parameter, i) => {
      const end = slab.parameters[i + 1]?.start ?? slab.size;
      const own = blockOf(parameter);
      const next = slab.parameters[i + 1];
      block =
        from === parameter.start ? own : own === undefined || block === undefined ? undefined : Math.min(block, own);
      const closes =
        next === undefined || (end - from) * 4 >= bucketBytes || (blockOf(next) === undefined) !== (own === undefined);
      if (!closes) return;
      const grad = partOf(slab.grad, from, [end - from], `gradients ${from} to ${end} of slab ${slab.index}`);
      buckets.push({ grad, bytes: (end - from) * 4, block });
      from = end;
    });
  }
  // Array.sort is stable: every rank has the same order.
  return buckets.sort((a, b) => (b.block ?? -1) - (a.block ?? -1));
}

/** One rank's gradients are the step's. */
export const ownGradients: GradientReducer = {
  blockDone: () => {},
  reduceGradients: (share) => Promise.resolve({ ...share, shares: [share.tokens], waited: [0], reducing: 0 }),
  free: () => {},
};

/** @returns the reducer of a world; in a world of one nothing is copied or sent */
export function createReducer(gpu: Gpu, parameters: ParameterSet, world: World): GradientReducer {
  return world.size === 1 ? ownGradients : new WorldReducer(gpu, cutBuckets(parameters.slabs), world);
}

/** Host memory that the GPU copies to and from by itself. */
interface Staged {
  readonly tensor: Tensor;
  /** Its bytes, once the GPU is done with them. */
  bytes: Promise<Uint8Array<ArrayBuffer>> | undefined;
}

/**
 * Reduce-scatter and allgather of our own: each rank sums its piece of a bucket over all ranks, in their order, in f64, so that a
 * sum depends on neither the MPI library nor its choice of algorithm. MPI reads what the GPU wrote, and writes what it reads.
 */
class WorldReducer implements GradientReducer {
  readonly #gpu: Gpu;
  readonly #world: World;
  readonly #buckets: readonly Bucket[];
  readonly #read: Staged[];
  readonly #write: Staged[];
  /** Memory of the buckets on their way, used in turn: fresh pages would cost as much as the sums. */
  readonly #scratch: readonly { readonly pieces: Float32Array<ArrayBuffer>; readonly own: Float32Array<ArrayBuffer> }[];
  /** Buckets that the GPU was told to copy out, in this step. */
  #started = 0;
  #copied: PromiseWithResolvers<Uint8Array<ArrayBuffer>>[] = [];
  #patience = FIRST_PATIENCE;
  /** The sums of this step, from its first bucket on. */
  #summed: Promise<void> | undefined;

  constructor(gpu: Gpu, buckets: readonly Bucket[], world: World) {
    this.#gpu = gpu;
    this.#world = world;
    this.#buckets = buckets;
    const stage = (usage: number, label: string): Staged[] =>
      buckets.map(({ grad, bytes }) => {
        const size = this.#piece(bytes) * world.size;
        const buffer = gpu.device.createBuffer({ size, usage, label });
        return { tensor: { ...grad, buffer, offset: 0, part: true, label }, bytes: undefined };
      });
    const most = Math.max(...buckets.map(({ bytes }) => this.#piece(bytes) / 4));
    this.#scratch = Array.from({ length: ON_THE_WAY }, () => ({
      pieces: new Float32Array(most * world.size),
      own: new Float32Array(most),
    }));
    this.#read = stage(MAP_READ | COPY_DST, "gradients to reduce");
    this.#write = stage(MAP_WRITE | COPY_SRC, "reduced gradients");
  }

  blockDone(block: number): void {
    while ((this.#buckets[this.#started]?.block ?? -1) >= block) this.#start();
  }

  async reduceGradients(share: StepShare, step: number): Promise<StepTotals> {
    while (this.#started < this.#buckets.length) this.#start();
    // Both go on at once: who is late is known by the small messages, of which rank 0 gets one from each.
    let met = 0;
    const meeting = this.#meet(share, `step ${step}`).finally(() => (met = performance.now()));
    const [totals] = await Promise.all([meeting, this.#summed]);
    this.#started = 0;
    this.#patience = 1;
    this.#summed = undefined;
    return { ...totals, reducing: (performance.now() - met) / 1000 };
  }

  free(): void {
    for (const { tensor } of [...this.#read, ...this.#write]) tensor.buffer.destroy();
  }

  /** Sums what is small. The clocks of hosts differ, so each rank takes its own wait: the time until all have come. */
  async #meet({ lossSum, samples, tokens }: StepShare, what: string): Promise<Omit<StepTotals, "reducing">> {
    const sum = await lossSum(); // the GPU is done with this rank's share then: from here on it waits for others
    const from = performance.now();
    const all = await this.#world.exchange([sum, samples, tokens], { what, patience: this.#patience });
    const own = (performance.now() - from) / 1000;
    const waited = await this.#world.exchange([own], { what });
    const total = (i: number): number => all.reduce((sum, values) => sum + values[i]!, 0);
    return {
      lossSum: async () => total(0),
      samples: total(1),
      tokens: total(2),
      shares: all.map((values) => values[2]!),
      waited: waited.map(([seconds]) => seconds!),
    };
  }

  /** Bytes of each rank's piece of a bucket. */
  #piece(bytes: number): number {
    return Math.ceil(bytes / 4 / this.#world.size) * 4;
  }

  /** Has the GPU copy the next bucket out as soon as what is encoded so far has run. */
  #start(): void {
    if (this.#started === 0) {
      this.#copied = this.#buckets.map(() => Promise.withResolvers());
      for (const { promise } of this.#copied) promise.catch(() => {}); // thrown where it is awaited
      this.#summed = this.#sum("the gradients of other ranks");
      this.#summed.catch(() => {});
    }
    const { tensor } = this.#read[this.#started]!;
    this.#gpu.copy(this.#buckets[this.#started]!.grad, tensor);
    this.#gpu.submit();
    this.#copied[this.#started]!.resolve(this.#map(tensor.buffer, MAP_READ));
    this.#started++;
  }

  #map(buffer: GPUBuffer, mode: number): Promise<Uint8Array<ArrayBuffer>> {
    const mapped = this.#gpu.map(buffer, mode).then(() => new Uint8Array(buffer.getMappedRange()));
    mapped.catch(() => {}); // thrown where it is awaited
    return mapped;
  }

  /** All buckets, some on their way at once; collectives must start in the same order on every rank. */
  async #sum(what: string): Promise<void> {
    const { size } = this.#world;
    const count = this.#buckets.length;
    const scattered: Promise<void>[] = [];
    const gathered: { readonly done: Promise<void>; readonly all: Uint8Array<ArrayBuffer> }[] = [];
    for (let turn = 0; turn < count + 2; turn++) {
      if (turn < count) {
        const send = await this.#copied[turn]!.promise;
        const { pieces } = this.#scratch[turn % ON_THE_WAY]!;
        const done = this.#world.allToAll(send, new Uint8Array(pieces.buffer, 0, send.length), {
          what,
          patience: this.#patience,
        });
        done.catch(() => {});
        scattered.push(done);
      }
      if (turn >= 1 && turn <= count) {
        const at = turn - 1;
        await scattered[at];
        this.#read[at]!.tensor.buffer.unmap();
        const bytes = this.#piece(this.#buckets[at]!.bytes);
        const { pieces, own } = this.#scratch[at % ON_THE_WAY]!;
        sumPieces(pieces.subarray(0, (bytes / 4) * size), own.subarray(0, bytes / 4));
        const staged = this.#write[at]!;
        const all = await (staged.bytes ?? this.#map(staged.tensor.buffer, MAP_WRITE));
        const gathering = this.#world.allGather(new Uint8Array(own.buffer, 0, bytes), all, {
          what,
          patience: this.#patience,
        });
        gathering.catch(() => {});
        gathered.push({ done: gathering, all });
      }
      if (turn >= 2) {
        const at = turn - 2;
        await gathered[at]!.done;
        const staged = this.#write[at]!;
        staged.tensor.buffer.unmap();
        this.#gpu.copy(staged.tensor, this.#buckets[at]!.grad);
        this.#gpu.submit();
        staged.bytes = this.#map(staged.tensor.buffer, MAP_WRITE);
      }
    }
  }
}

/** Sums pieces of `out`'s length that lie end to end, in f64 and in their order. */
export function sumPieces(pieces: Float32Array, out: Float32Array): void {
  const { length } = out;
  if (pieces.length === 2 * length) {
    for (let i = 0; i < length; i++) out[i] = pieces[i]! + pieces[length + i]!;
    return;
  }
  for (let i = 0; i < length; i++) {
    let sum = 0;
    for (let at = i; at < pieces.length; at += length) sum += pieces[at]!;
    out[i] = sum;
  }
}
