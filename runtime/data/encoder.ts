import { Worker } from "node:worker_threads";
import { ConfigError, DataError, ModelError, QloraError } from "../../core/errors.ts";
import { loadTokenizer, type Tokenizer, type TokenizerBackend } from "./tokenizer.ts";
import { type EncodedRows, encodeRows, type RowEncodeOptions, type RowText } from "./truncation.ts";

/** Where rows become ids: in this thread or in a worker. */
export interface Encoder {
  /** Rejects with a QloraError where no text can be encoded, with another Error where one of `texts` is to blame. */
  encode(texts: readonly RowText[]): Promise<EncodedRows>;
  close(): void;
}

export type TokenizerSource = { readonly dir: string; readonly backend: TokenizerBackend | undefined };

/** Messages to the worker. */
export type WorkerRequest =
  | { readonly kind: "open"; readonly source: TokenizerSource; readonly options: RowEncodeOptions }
  | { readonly kind: "encode"; readonly job: number; readonly texts: readonly RowText[] };

/** Messages from the worker. */
export type WorkerReply =
  | ({ readonly kind: "encoded"; readonly job: number } & EncodedRows)
  | { readonly kind: "failed"; readonly job: number; readonly error: FlatError };

/** An error that crosses threads; `code` only for those of qlora. */
export type FlatError = {
  readonly name: string;
  readonly message: string;
  readonly code: string | undefined;
  readonly hint: string | undefined;
};

export function flattenError(error: unknown): FlatError {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  const known = error instanceof QloraError ? error : undefined;
  return { name, message, code: known?.code, hint: known?.hint };
}

function restoreError({ name, message, code, hint }: FlatError, dir: string): Error {
  if (code === undefined) return new Error(message);
  const details = hint === undefined ? {} : { hint };
  if (name === "ConfigError") return new ConfigError(code, message, details);
  if (name === "ModelError") return new ModelError(code, message, details);
  return new DataError(code, message, { file: dir }, details);
}

/** Encodes in this thread, loading the tokenizer at the first call. */
export function inlineEncoder(source: TokenizerSource | Tokenizer, options: RowEncodeOptions): Encoder {
  let loaded: Promise<Tokenizer> | undefined;
  return {
    encode: async (texts) => {
      loaded ??= "encodeBatch" in source ? Promise.resolve(source) : loadTokenizer(source.dir, source.backend);
      return encodeRows(await loaded, texts, options);
    },
    close: () => {
      loaded = undefined;
    },
  };
}

/** Encodes in one worker, whose library uses every core; this thread stays free to feed the GPU. */
export function workerEncoder(source: TokenizerSource, options: RowEncodeOptions): Encoder {
  const waiting = new Map<number, PromiseWithResolvers<EncodedRows>>();
  let lastJob = 0;
  let dead: Error | undefined;
  // The built package holds JavaScript.
  const file = import.meta.url.endsWith(".ts") ? "./tokenizer-worker.ts" : "./tokenizer-worker.js";
  const worker = new Worker(new URL(file, import.meta.url));
  const send = (request: WorkerRequest) => worker.postMessage(request);
  const fail = (error: Error) => {
    dead ??= error;
    for (const { reject } of waiting.values()) reject(dead);
    waiting.clear();
  };
  worker.on("message", (data: WorkerReply) => {
    const entry = waiting.get(data.job);
    waiting.delete(data.job);
    if (data.kind === "encoded") entry?.resolve(data);
    else entry?.reject(restoreError(data.error, source.dir));
  });
  const died = (how: string) =>
    new DataError("DATA_WORKER_DIED", `the tokenizing worker stopped: ${how}`, { file: source.dir });
  worker.on("error", (error: unknown) => fail(died(error instanceof Error ? error.message : String(error))));
  worker.on("exit", () => fail(died("it ended early")));
  send({ kind: "open", source, options });
  return {
    encode: (texts) => {
      if (dead !== undefined) return Promise.reject(dead);
      const entry = Promise.withResolvers<EncodedRows>();
      const job = ++lastJob;
      waiting.set(job, entry);
      send({ kind: "encode", job, texts });
      return entry.promise;
    },
    close: () => {
      fail(new QloraError("TOKENIZER_CLOSED", "the tokenizer was closed before it was done"));
      void worker.terminate();
    },
  };
}
