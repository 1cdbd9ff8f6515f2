/** The processes of a run: what they exchange, and which of them this one is. A process alone is a world of one. */

/** How long an exchange may take, and what it is for. */
export interface Waiting {
  /** Names it in errors: `the gradients of step 12`. */
  readonly what: string;
  /** Default: the world's deadline; Infinity where one rank may take as long as it needs. */
  readonly deadlineMs?: number | undefined;
  /** So many times the deadline, where kernels may be compiled first; default 1. */
  readonly patience?: number | undefined;
}

/** All processes that train or evaluate together. Every rank calls the same methods in the same order. */
export interface World {
  readonly rank: number;
  readonly size: number;
  /** Which of the ranks of this host this is, and how many they are. */
  readonly localRank: number;
  readonly localSize: number;
  /** Host of each rank. */
  readonly hosts: readonly string[];
  /** The MPI library, as it calls itself; undefined in a world of one. */
  readonly library: string | undefined;
  /** Each rank's numbers, in the order of the ranks: every rank gets the same bytes, and may sum them as it likes. */
  exchange(values: readonly number[], waiting: Waiting): Promise<readonly Float64Array[]>;
  /** Each rank's bytes, of any length, in the order of the ranks. */
  gather(bytes: Uint8Array<ArrayBuffer>, waiting: Waiting): Promise<readonly Uint8Array<ArrayBuffer>[]>;
  /** Rank 0's bytes on every rank. */
  broadcast(bytes: Uint8Array<ArrayBuffer> | undefined, waiting: Waiting): Promise<Uint8Array<ArrayBuffer>>;
  /** `send` in pieces of equal size, one for each rank; `receive` gets the piece that each rank has for this one. */
  allToAll(send: Uint8Array, receive: Uint8Array, waiting: Waiting): Promise<void>;
  /** Every rank's `own`, end to end, in `all`. */
  allGather(own: Uint8Array, all: Uint8Array, waiting: Waiting): Promise<void>;
  /** Sum over all ranks, in place; its last bits depend on the library. */
  allReduce(values: Float32Array | Float64Array, waiting: Waiting): Promise<void>;
  /** Returns when every rank has called it. */
  barrier(waiting: Waiting): Promise<void>;
  /** Leaves the world, once every rank does. */
  close(waiting: Waiting): Promise<void>;
  /** Ends every rank's process, this one's included. */
  abort(code: number): void;
}

/** Times the deadline for a first step, in which every kernel is compiled. */
export const FIRST_PATIENCE = 3;

/** Ten minutes: a rank that says nothing for so long is lost. */
export const DEADLINE_MS = 600_000;

const copy = (from: Uint8Array, to: Uint8Array): Promise<void> => {
  to.set(from);
  return Promise.resolve();
};

/** A process alone: what it exchanges with is itself. */
export const alone: World = {
  rank: 0,
  size: 1,
  localRank: 0,
  localSize: 1,
  hosts: [""],
  library: undefined,
  exchange: (values) => Promise.resolve([Float64Array.from(values)]),
  gather: (bytes) => Promise.resolve([bytes]),
  broadcast: (bytes) => Promise.resolve(bytes!),
  allToAll: copy,
  allGather: copy,
  allReduce: () => Promise.resolve(),
  barrier: () => Promise.resolve(),
  close: () => Promise.resolve(),
  abort: (code) => process.exit(code),
};

/** The highest of the ranks' numbers. */
export async function highestOfRanks(world: World, own: number, what: string, patience = 1): Promise<number> {
  if (world.size === 1) return own;
  return Math.max(...(await world.exchange([own], { what, patience })).map(([value]) => value!));
}

/** Whether any rank says yes. */
export const anyRank = async (world: World, own: boolean, what: string): Promise<boolean> =>
  (await highestOfRanks(world, own ? 1 : 0, what)) > 0;

/** Rank 0's value on every rank; plain JSON. @param make called on rank 0 alone */
export async function fromFirst<T>(world: World, waiting: Waiting, make: () => T | Promise<T>): Promise<T> {
  if (world.size === 1) return make();
  const bytes = world.rank === 0 ? new TextEncoder().encode(JSON.stringify([await make()])) : undefined;
  const [value] = JSON.parse(new TextDecoder().decode(await world.broadcast(bytes, waiting))) as [T?];
  return value as T;
}

/** Runs `work` on one rank of each host first, then on the others, which find what it left. */
export async function firstOfHost<T>(world: World, what: string, work: () => Promise<T>): Promise<T> {
  if (world.size === 1) return work();
  const waiting = { what, deadlineMs: Infinity };
  if (world.localRank === 0) {
    const done = await work();
    await world.barrier(waiting);
    return done;
  }
  await world.barrier(waiting);
  return work();
}
