/** Dynamic batching: rows wait while the GPU works, and go together as far as a batch reaches. */
import { QloraError } from "../../core/errors.ts";
import type { PackLimits } from "../../runtime/data/pack.ts";

/** Rows of one request. */
interface Request {
  readonly adapter: string;
  readonly rows: readonly Uint32Array[];
  /** [numLabels] logits of each row that is done. */
  readonly logits: Float32Array[];
  /** Rows that are handed out. */
  taken: number;
  readonly ended: PromiseWithResolvers<readonly Float32Array[]>;
}

/** A batch that has been computed. */
export interface BatchStats {
  readonly rows: number;
  readonly tokens: number;
  readonly seconds: number;
}

/** How rows are put together. */
export interface BatcherOptions {
  /** Of a batch. */
  readonly limits: PackLimits;
  /** Most tokens that wait; a request that would exceed them is refused, unless nothing waits. */
  readonly maxQueueTokens: number;
  /** Logits of rows that one adapter judges, one array for each. */
  readonly run: (adapter: string, rows: readonly Uint32Array[]) => Promise<readonly Float32Array[]>;
  readonly onBatch: (stats: BatchStats) => void;
}

/** What waits. */
export interface QueueState {
  readonly requests: number;
  readonly rows: number;
  readonly tokens: number;
}

/** The error of a request that finds the queue full. */
export const QUEUE_FULL = "QUEUE_FULL";

const tokensOf = (rows: readonly Uint32Array[]): number => rows.reduce((sum, { length }) => sum + length, 0);

/** Requests in the order of their arrival; a batch holds rows of one adapter, that of the request that has waited longest. */
export class Batcher {
  readonly #options: BatcherOptions;
  readonly #waiting = new Set<Request>();
  #tokens = 0;
  #working: Promise<void> | undefined;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  get state(): QueueState {
    let rows = 0;
    for (const request of this.#waiting) rows += request.rows.length - request.taken;
    return { requests: this.#waiting.size, rows, tokens: this.#tokens };
  }

  /**
   * Logits of rows, in their order.
   * @param signal a request that nobody waits for any more leaves the queue
   * @throws QloraError QUEUE_FULL at once, INTERRUPTED where the signal aborts; what `run` throws
   */
  submit(adapter: string, rows: readonly Uint32Array[], signal?: AbortSignal): Promise<readonly Float32Array[]> {
    const tokens = tokensOf(rows);
    const { maxQueueTokens } = this.#options;
    if (this.#tokens > 0 && this.#tokens + tokens > maxQueueTokens) {
      const message = `${this.#tokens} tokens wait already, ${tokens} more would exceed ${maxQueueTokens}`;
      return Promise.reject(new QloraError(QUEUE_FULL, message, { hint: "Try again later, or with fewer rows." }));
    }
    const request: Request = { adapter, rows, logits: [], taken: 0, ended: Promise.withResolvers() };
    if (rows.length === 0) return Promise.resolve([]);
    const gone = (): void => this.#drop(request, new QloraError("INTERRUPTED", "the client has gone"));
    if (signal?.aborted === true) return Promise.reject(new QloraError("INTERRUPTED", "the client has gone"));
    signal?.addEventListener("abort", gone, { once: true });
    this.#waiting.add(request);
    this.#tokens += tokens;
    this.#working ??= this.#work();
    return request.ended.promise.finally(() => signal?.removeEventListener("abort", gone));
  }

  /** Resolves when nothing waits and nothing is computed. */
  async idle(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  async #work(): Promise<void> {
    // Requests that arrive in the same turn share the first batch.
    await Promise.resolve();
    while (this.#waiting.size > 0) await this.#runBatch(this.#take());
    this.#working = undefined;
  }

  /** Takes the rows of the next batch out of the queue: at least one. */
  #take(): readonly Request[] {
    const { maxTokens, maxSamples = Infinity } = this.#options.limits;
    const [oldest] = this.#waiting;
    const taken: Request[] = [];
    let tokens = 0;
    for (const request of this.#waiting) {
      if (request.adapter !== oldest!.adapter) continue;
      for (let row = request.rows[request.taken]; row !== undefined; row = request.rows[request.taken]) {
        if (taken.length > 0 && (tokens + row.length > maxTokens || taken.length >= maxSamples)) return taken;
        taken.push(request);
        request.taken++;
        tokens += row.length;
        this.#tokens -= row.length;
      }
    }
    return taken;
  }

  /** @param of the request of each row */
  async #runBatch(of: readonly Request[]): Promise<void> {
    const places = new Map<Request, number>();
    const rows = of.map((request) => {
      const place = places.get(request) ?? request.logits.length;
      places.set(request, place + 1);
      return request.rows[place]!;
    });
    const from = performance.now();
    try {
      const logits = await this.#options.run(of[0]!.adapter, rows);
      of.forEach((request, i) => request.logits.push(logits[i]!));
      const seconds = (performance.now() - from) / 1000;
      this.#options.onBatch({ rows: rows.length, tokens: tokensOf(rows), seconds });
    } catch (error) {
      for (const request of places.keys()) this.#drop(request, error);
    }
    for (const request of places.keys()) {
      if (request.logits.length < request.rows.length) continue;
      this.#waiting.delete(request);
      request.ended.resolve(request.logits);
    }
  }

  #drop(request: Request, error: unknown): void {
    if (this.#waiting.delete(request)) this.#tokens -= tokensOf(request.rows.slice(request.taken));
    request.ended.reject(error);
  }
}
