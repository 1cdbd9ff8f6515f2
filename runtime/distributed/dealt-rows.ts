/** Rows that several ranks compute, batch by batch; every rank gets all of them. */
import { QloraError } from "../../core/errors.ts";
import { dealBatches } from "./deal.ts";
import { anyRank, fromFirst, type World } from "./world.ts";

/** Batches that each rank computes between two meetings, where what is done is kept or the work may be stopped. */
const ROUND = 8;

/** Batches of rows, and what makes their numbers. */
export interface DealtWork {
  /** Positions in `lengths`, each once. */
  readonly batches: readonly (readonly number[])[];
  /** Tokens of each row. */
  readonly lengths: ArrayLike<number>;
  /** Numbers of a row. */
  readonly width: number;
  readonly compute: (members: readonly number[]) => Promise<Float32Array<ArrayBuffer>>;
}

/** What is kept of it, what ends it, and who is told; of rank 0 where only that has them. */
export interface DealtOptions {
  readonly kept?:
    | {
        get(row: number): Float32Array | undefined;
        add(rows: readonly number[], values: Float32Array<ArrayBuffer>): Promise<void>;
      }
    | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onDone: (rows: number) => void;
}

/**
 * Batches are cut as for one rank and dealt whole, so that their numbers are those of one rank, to the byte.
 * @returns [rows, width] in row order
 * @throws QloraError INTERRUPTED on every rank where one is told to stop
 */
export async function computeDealt(
  world: World,
  { batches, lengths, width, compute }: DealtWork,
  { kept, signal, onDone }: DealtOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const all = new Float32Array(lengths.length * width);
  let done = 0;
  const place = (members: readonly number[], values: Float32Array): void => {
    members.forEach((row, i) => all.set(values.subarray(i * width, (i + 1) * width), row * width));
    done += members.length;
  };
  // What a prediction before this one has kept lies on rank 0.
  const known = await fromFirst(world, { what: "the rows that are done" }, () =>
    batches.flatMap((members, b) => (kept !== undefined && members.every((row) => kept.get(row)) ? [b] : [])),
  );
  const values = Float32Array.from(
    known.flatMap((b) => batches[b]!.flatMap((row) => (kept?.get(row) === undefined ? [] : [...kept.get(row)!]))),
  );
  const told =
    known.length === 0
      ? new Uint8Array()
      : await world.broadcast(new Uint8Array(values.buffer), { what: "the rows that are done" });
  const before = new Float32Array(told.buffer);
  let at = 0;
  for (const b of known) {
    const members = batches[b]!;
    place(members, before.subarray(at, at + members.length * width));
    at += members.length * width;
  }

  const isKnown = new Set(known);
  const open = batches.filter((_, b) => !isKnown.has(b));
  const shares = dealBatches(open, lengths, world.size);
  const most = Math.max(...shares.map((share) => share.length));
  const own = shares[world.rank]!;
  for (let first = 0; first < most; first += ROUND) {
    const what = `row ${done} of ${lengths.length}`;
    if (await anyRank(world, signal?.aborted === true, what))
      throw new QloraError("INTERRUPTED", `interrupted after ${done} of ${lengths.length} rows`);
    const computed: Float32Array<ArrayBuffer>[] = [];
    for (const b of own.slice(first, first + ROUND)) {
      computed.push(await compute(open[b]!));
      if (first + computed.length < most)
        onDone(Math.min(lengths.length, done + world.size * computed.length * open[b]!.length));
    }
    const mine = new Float32Array(computed.reduce((sum, part) => sum + part.length, 0));
    let end = 0;
    for (const part of computed) {
      mine.set(part, end);
      end += part.length;
    }
    const gathered = await world.gather(new Uint8Array(mine.buffer), { what });
    for (const [rank, bytes] of gathered.entries()) {
      const theirs = new Float32Array(bytes.buffer);
      let from = 0;
      for (const b of shares[rank]!.slice(first, first + ROUND)) {
        const members = open[b]!;
        const part = theirs.slice(from, from + members.length * width);
        from += part.length;
        place(members, part);
        await kept?.add(members, part);
      }
    }
    onDone(done);
  }
  return all;
}
