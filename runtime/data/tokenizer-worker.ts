/** The thread that tokenizes in bulk; see `workerEncoder` for the other end. */
import { flattenError, inlineEncoder, type Encoder, type WorkerReply, type WorkerRequest } from "./encoder.ts";

declare const self: Worker;

let encoder: Encoder | undefined;

self.onmessage = async ({ data }: MessageEvent<WorkerRequest>) => {
  if (data.kind === "open") {
    encoder = inlineEncoder(data.source, data.options);
    return;
  }
  const { job, texts } = data;
  try {
    if (encoder === undefined) throw new Error("the worker was not opened");
    const batch = await encoder.encode(texts);
    const reply: WorkerReply = { kind: "encoded", job, ...batch };
    self.postMessage(reply, [batch.ids.buffer, batch.lengths.buffer, batch.fullLengths.buffer, batch.cuts.buffer]);
  } catch (error) {
    const reply: WorkerReply = { kind: "failed", job, error: flattenError(error) };
    self.postMessage(reply);
  }
};
