import type { Gpu } from "../device/gpu.ts";
import type { Tensor } from "../device/tensor.ts";

/** A packed micro-batch on the GPU. Only attention looks at `segments`. */
export interface Batch {
  /** N. */
  readonly tokens: number;
  /** B. */
  readonly samples: number;
  /** Tokens of the longest sample. */
  readonly maxSeqlen: number;
  readonly host: PackedArrays;
  /** [N] u32. */
  readonly ids: Tensor;
  /** [N,2] u32: first row of the token's sample, row after its last. */
  readonly segments: Tensor;
  /** [N] u32: counter of the dropout generator, the same for a token however its batch is packed. */
  readonly rowKeys: Tensor;
  /** [B] u32: row of each sample's last token. */
  readonly lastTokens: Tensor;
  /** [B] u32; zeros where there are no labels. */
  readonly labels: Tensor;
  /**
   * The last tokens alone, one row a sample, each with the position and the row key that it has here: what the part of a
   * model runs on that only these reach. Freed with this batch.
   */
  readonly pooled: Batch;
  free(): void;
}

/** A 32-bit mix of three counters (two rounds of the finalizer of MurmurHash3). */
export function mix(a: number, b: number, c: number): number {
  let h = (Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca77) ^ Math.imul(c, 0xc2b2ae3d)) >>> 0;
  for (let round = 0; round < 2; round++) {
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
  }
  return h;
}

/**
 * Uploads a micro-batch.
 * @param stepKey number of the optimizer step: dropout draws again each step, and the same when a step is repeated
 */
export function uploadBatch(gpu: Gpu, host: PackedArrays, stepKey: number): Batch {
  const tokens = host.inputIds.length;
  const samples = host.cuSeqlens.length - 1;
  const rowKeys = new Uint32Array(tokens);
  const lastTokens = new Uint32Array(samples);
  let maxSeqlen = 0;
  for (let b = 0; b < samples; b++) {
    const start = host.cuSeqlens[b]!;
    const end = host.cuSeqlens[b + 1]!;
    if (end <= start) throw new RangeError(`sample ${b} of the batch has no tokens`);
    lastTokens[b] = end - 1;
    maxSeqlen = Math.max(maxSeqlen, end - start);
    for (let i = start; i < end; i++) rowKeys[i] = mix(stepKey, host.sampleIndex[b]!, i - start);
  }
  const batch = { tokens, samples, maxSeqlen, host, rowKeys, lastTokens };
  return onDevice(gpu, batch, onDevice(gpu, lastRows(batch)));
}

/** What a batch is before it lies on the GPU. */
interface HostBatch extends Pick<Batch, "tokens" | "samples" | "maxSeqlen" | "host"> {
  readonly rowKeys: Uint32Array<ArrayBuffer>;
  readonly lastTokens: Uint32Array<ArrayBuffer>;
}

function lastRows({ samples, host, rowKeys, lastTokens }: HostBatch): HostBatch {
  const rows = Uint32Array.from({ length: samples }, (_, b) => b);
  const segments = new Uint32Array(2 * samples);
  for (const b of rows) {
    // A row's position is its distance from its segment's start, modulo 2^32.
    segments[2 * b] = b - (lastTokens[b]! - host.cuSeqlens[b]!);
    segments[2 * b + 1] = b + 1;
  }
  const pooled: PackedArrays = {
    inputIds: Uint32Array.from(lastTokens, (row) => host.inputIds[row]!),
    cuSeqlens: Uint32Array.from({ length: samples + 1 }, (_, b) => b),
    segments,
    labels: host.labels,
    sampleIndex: host.sampleIndex,
  };
  const keys = Uint32Array.from(lastTokens, (row) => rowKeys[row]!);
  return { tokens: samples, samples, maxSeqlen: 1, host: pooled, rowKeys: keys, lastTokens: rows };
}

/** @param pooled its last rows; undefined where it is all last rows itself */
function onDevice(gpu: Gpu, batch: HostBatch, pooled?: Batch): Batch {
  const { tokens, samples, maxSeqlen, host } = batch;
  const tensors = {
    ids: gpu.upload(host.inputIds, [tokens], "u32", "input ids"),
    segments: gpu.upload(host.segments, [tokens, 2], "u32", "segments"),
    rowKeys: gpu.upload(batch.rowKeys, [tokens], "u32", "row keys"),
    lastTokens: gpu.upload(batch.lastTokens, [samples], "u32", "last tokens"),
    labels: gpu.upload(host.labels ?? new Uint32Array(samples), [samples], "u32", "labels"),
  };
  return {
    tokens,
    samples,
    maxSeqlen,
    host,
    ...tensors,
    get pooled() {
      return pooled ?? this;
    },
    free() {
      pooled?.free();
      for (const tensor of Object.values(tensors)) gpu.free(tensor);
    },
  };
}

/** Samples laid end to end, without padding; N tokens of B samples. */
export type PackedArrays = {
  /** [N] token ids. */
  readonly inputIds: Uint32Array;
  /** [B+1] first token of each sample, then N. */
  readonly cuSeqlens: Uint32Array;
  /** [2N] for each token, first and end (exclusive) token of its sample. */
  readonly segments: Uint32Array;
  /** [B] class indices; undefined where the samples have none. */
  readonly labels: Uint32Array | undefined;
  /** [B] where each sample stands in its dataset. */
  readonly sampleIndex: readonly number[];
};
