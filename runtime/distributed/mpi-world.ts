/** A world of processes that an MPI launcher started. Nothing here blocks the event loop: each turn of it asks MPI once. */
import { hostname } from "node:os";
import { ConfigError, QloraError } from "../../core/errors.ts";
import type { Environment, Launch } from "./launcher.ts";
import type { Argument, MpiFunction, MpiLibrary } from "./mpi-library.ts";
import { DEADLINE_MS, type Waiting, type World } from "./world.ts";

/** A request that waits this long is asked for once a millisecond: two ranks on one machine share its cores. */
const SPIN_MS = 3;
/** How often it is looked whether the other processes of this host still live. */
const ALIVE_MS = 500;
/** Rank 0 knows who is late, so it speaks first. */
const GRACE_MS = 5000;
/** Counts of MPI are ints. */
const MOST_BYTES = 2 ** 28;

/** A process of the world. */
interface Peer {
  readonly host: string;
  readonly pid: number;
  /** Whether its process can be seen from here. */
  readonly watched: boolean;
}

const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
};

/** Seconds of QLORA_MPI_DEADLINE; ten minutes where it is not set. @throws ConfigError */
export function deadlineOf(env: Environment): number {
  const text = env["QLORA_MPI_DEADLINE"];
  if (text === undefined || text === "") return DEADLINE_MS;
  const seconds = Number(text);
  if (seconds > 0) return seconds * 1000;
  throw new ConfigError("MPI_DEADLINE", `QLORA_MPI_DEADLINE: got ${text}, expected seconds above 0`);
}

/**
 * Joins the world of a launcher.
 * @throws ConfigError where the library and the launcher do not belong together
 */
export async function joinWorld(mpi: MpiLibrary, launch: Launch, env: Environment): Promise<MpiWorld> {
  const initialized = new Int32Array(1);
  mpi.call("MPI_Initialized", initialized);
  if (initialized[0] === 0) mpi.call("MPI_Init_thread", null, null, mpi.abi.funneled, new Int32Array(1));
  mpi.call("MPI_Comm_set_errhandler", mpi.handle("world"), mpi.handle("errorsReturn"));
  const read = (name: "MPI_Comm_rank" | "MPI_Comm_size"): number => {
    const out = new Int32Array(1);
    mpi.call(name, mpi.handle("world"), out);
    return out[0]!;
  };
  const [rank, size] = [read("MPI_Comm_rank"), read("MPI_Comm_size")];
  if (launch.size !== undefined && launch.size !== size) {
    mpi.call("MPI_Finalize");
    throw new ConfigError(
      "MPI_FAMILIES",
      `${launch.launcher} started ${launch.size} processes, but ${mpi.path} (${mpi.version}) gives this one a world of ${size}: ` +
        "library and launcher are of different families",
      { hint: "Start with that library's own mpirun, or name the launcher's library with QLORA_MPI_LIB." },
    );
  }
  const world = new MpiWorld(mpi, { rank, size, deadlineMs: deadlineOf(env) });
  await world.meet();
  return world;
}

/** What a world is made of before its ranks know each other. */
interface Place {
  readonly rank: number;
  readonly size: number;
  readonly deadlineMs: number;
}

/** A launcher that is told to abort drops what it has not passed on yet: time for the error of this rank to reach it. */
const PASS_ON_MS = 500;

export class MpiWorld implements World {
  readonly rank: number;
  readonly size: number;
  readonly library: string;
  localRank = 0;
  localSize = 1;
  hosts: readonly string[] = [];
  #peers: readonly Peer[] = [];
  #left = false;
  #tag = 0;
  /** Ranks of which rank 0 waits to hear. */
  #awaited: readonly number[] = [];
  readonly #mpi: MpiLibrary;
  readonly #deadlineMs: number;

  constructor(mpi: MpiLibrary, { rank, size, deadlineMs }: Place) {
    this.#mpi = mpi;
    this.rank = rank;
    this.size = size;
    this.library = mpi.version;
    this.#deadlineMs = deadlineMs;
    process.on("exit", (code) => this.#exit(code));
  }

  /** Learns who is where. */
  async meet(): Promise<void> {
    const own = new TextEncoder().encode(JSON.stringify({ host: hostname(), pid: process.pid }));
    const said = await this.gather(own, { what: "all ranks to start" });
    const peers = said.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)) as Pick<Peer, "host" | "pid">);
    // A host's name may be that of containers whose processes cannot be seen: those are not watched.
    this.#peers = peers.map((peer) => ({ ...peer, watched: peer.host === hostname() && alive(peer.pid) }));
    this.hosts = peers.map(({ host }) => host);
    const local = this.hosts.flatMap((host, rank) => (host === this.hosts[this.rank] ? [rank] : []));
    this.localRank = local.indexOf(this.rank);
    this.localSize = local.length;
  }

  async exchange(values: readonly number[], waiting: Waiting): Promise<readonly Float64Array[]> {
    const width = values.length;
    const all = new Float64Array(width * this.size);
    all.set(values, this.rank * width);
    const part = (rank: number): Float64Array => all.subarray(rank * width, (rank + 1) * width);
    const double = this.#mpi.handle("double");
    const tag = (this.#tag = (this.#tag + 1) % 32_000);
    if (this.rank === 0) {
      const others = Array.from({ length: this.size - 1 }, (_, i) => i + 1);
      const requests = others.map((rank) => this.#start("MPI_Irecv", part(rank), width, double, rank, tag));
      this.#awaited = others;
      await this.#finish(requests, waiting, 0, (pending) => (this.#awaited = pending.map((i) => others[i]!)));
      const answers = others.map((rank) => this.#start("MPI_Isend", all, all.length, double, rank, tag));
      await this.#finish(answers, waiting, GRACE_MS);
    } else {
      // Messages alone: a collective would have to start in the same order among others on every rank.
      const answer = this.#start("MPI_Irecv", all, all.length, double, 0, tag);
      const own = Float64Array.from(values);
      await this.#finish([this.#start("MPI_Isend", own, width, double, 0, tag), answer], waiting, GRACE_MS);
    }
    return Array.from({ length: this.size }, (_, rank) => part(rank));
  }

  async gather(bytes: Uint8Array<ArrayBuffer>, waiting: Waiting): Promise<readonly Uint8Array<ArrayBuffer>[]> {
    const sizes = (await this.exchange([bytes.length], waiting)).map(([size]) => size!);
    const most = Math.max(...sizes, 1);
    const own = new Uint8Array(most);
    own.set(bytes);
    const all = new Uint8Array(most * this.size);
    await this.allGather(own, all, waiting);
    return sizes.map((size, rank) => all.slice(rank * most, rank * most + size));
  }

  async broadcast(bytes: Uint8Array<ArrayBuffer> | undefined, waiting: Waiting): Promise<Uint8Array<ArrayBuffer>> {
    const size = (await this.exchange([bytes?.length ?? 0], waiting))[0]![0]!;
    const all = this.rank === 0 ? bytes! : new Uint8Array(size);
    for (let at = 0; at < size; at += MOST_BYTES) {
      const piece = all.subarray(at, Math.min(size, at + MOST_BYTES));
      const request = this.#start("MPI_Ibcast", piece, piece.length, this.#mpi.handle("byte"), 0);
      await this.#finish([request], waiting, GRACE_MS);
    }
    return all;
  }

  async allToAll(send: Uint8Array, receive: Uint8Array, waiting: Waiting): Promise<void> {
    const [piece, byte] = [send.length / this.size, this.#mpi.handle("byte")];
    const request = this.#start("MPI_Ialltoall", send, piece, byte, receive, piece, byte);
    await this.#finish([request], waiting, GRACE_MS, undefined, true);
  }

  async allGather(own: Uint8Array, all: Uint8Array, waiting: Waiting): Promise<void> {
    const byte = this.#mpi.handle("byte");
    const request = this.#start("MPI_Iallgather", own, own.length, byte, all, own.length, byte);
    await this.#finish([request], waiting, GRACE_MS, undefined, true);
  }

  async allReduce(values: Float32Array | Float64Array, waiting: Waiting): Promise<void> {
    const type = this.#mpi.handle(values instanceof Float32Array ? "float" : "double");
    const from = values.slice();
    const request = this.#start("MPI_Iallreduce", from, values, values.length, type, this.#mpi.handle("sum"));
    await this.#finish([request], waiting, GRACE_MS, undefined, true);
  }

  async barrier(waiting: Waiting): Promise<void> {
    await this.exchange([], waiting);
  }

  async close(waiting: Waiting): Promise<void> {
    if (this.#left) return;
    await this.barrier(waiting);
    this.#left = true;
    this.#mpi.call("MPI_Finalize");
  }

  abort(code: number): void {
    this.#left = true;
    this.#mpi.call("MPI_Abort", this.#mpi.handle("world"), code);
  }

  /** A rank that leaves without a word would leave the others waiting, and might end the whole job with code 0. */
  #exit(code: number): void {
    if (this.#left) return;
    if (code !== 0) {
      Bun.sleepSync(PASS_ON_MS);
      return this.abort(code);
    }
    const request = this.#start("MPI_Ibarrier");
    for (const end = performance.now() + this.#deadlineMs; performance.now() < end; Bun.sleepSync(1)) {
      if (!this.#test(request)) continue;
      this.#left = true;
      this.#mpi.call("MPI_Finalize");
      return;
    }
    this.abort(1);
  }

  /** Starts what ends later. @returns its request */
  #start(name: MpiFunction, ...args: readonly Argument[]): Uint8Array {
    const request = new Uint8Array(this.#mpi.abi.requestBytes);
    this.#mpi.call(name, ...args, this.#mpi.handle("world"), request);
    return request;
  }

  #test(request: Uint8Array): boolean {
    const flag = new Int32Array(1);
    this.#mpi.call("MPI_Test", request, flag, this.#mpi.abi.statusIgnore);
    return flag[0] !== 0;
  }

  /**
   * Waits for requests. What they read and write must be held by the caller until then.
   * @param late called with the places of those that are pending, as they become fewer
   * @param bulk true where MPI has bytes to move all the while, which it does only when it is asked
   */
  async #finish(
    requests: readonly Uint8Array[],
    { what, deadlineMs: most = this.#deadlineMs, patience = 1 }: Waiting,
    graceMs: number,
    late?: (pending: readonly number[]) => void,
    bulk = false,
  ): Promise<void> {
    const deadlineMs = most * patience;
    const from = performance.now();
    let looked = from;
    let pending = requests.map((_, i) => i);
    for (;;) {
      const left = pending.filter((i) => !this.#test(requests[i]!));
      if (left.length < pending.length) late?.(left);
      pending = left;
      if (pending.length === 0) return;
      const now = performance.now();
      if (now - from > deadlineMs + graceMs) throw this.#lateError(what, deadlineMs);
      if (now - looked > ALIVE_MS) {
        this.#checkAlive(what);
        looked = now;
      }
      if (bulk || now - from < SPIN_MS) await new Promise((resolve) => setImmediate(resolve));
      else await Bun.sleep(1);
    }
  }

  #checkAlive(what: string): void {
    const dead = this.#peers.findIndex(({ watched, pid }) => watched && !alive(pid));
    if (dead < 0) return;
    const { pid, host } = this.#peers[dead]!;
    throw new QloraError("RANK_LOST", `rank ${dead} (process ${pid} on ${host}) has ended, while waiting for ${what}`, {
      hint: "What it printed, or the system's log (out of memory?), says why; then go on with --resume-from-checkpoint.",
    });
  }

  #lateError(what: string, deadlineMs: number): QloraError {
    const named = this.rank === 0 ? this.#awaited : [0];
    const who = named.map(
      (rank) => `rank ${rank} (process ${this.#peers[rank]?.pid ?? "?"} on ${this.#peers[rank]?.host ?? "?"})`,
    );
    const message = `${who.join(" and ") || "another rank"} did not come within ${deadlineMs / 1000} s, while waiting for ${what}`;
    return new QloraError("RANK_LATE", message, {
      hint: "Look at that process; QLORA_MPI_DEADLINE gives it more seconds. Go on with --resume-from-checkpoint.",
    });
  }
}
