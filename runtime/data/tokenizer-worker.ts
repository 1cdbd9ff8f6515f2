/** The thread that tokenizes in bulk; see `workerEncoder` for the other end. */
import { parentPort } from "node:worker_threads";
import { flattenError, inlineEncoder, type Encoder, type WorkerReply, type WorkerRequest } from "./encoder.ts";

let encoder: Encoder | undefined;

async function answer(data: WorkerRequest): Promise<void> {
  if (data.kind === "open") {
    encoder = inlineEncoder(data.source, data.options);
    return;
  }
  const { job, texts } = data;
  try {
    if (encoder === undefined) throw new Error("the worker was not opened");
    const batch = await encoder.encode(texts);
    const reply: WorkerReply = { kind: "encoded", job, ...batch };
    parentPort!.postMessage(reply, [
      batch.ids.buffer,
      batch.lengths.buffer,
      batch.fullLengths.buffer,
      batch.cuts.buffer,
    ]);
  } catch (error) {
    const reply: WorkerReply = { kind: "failed", job, error: flattenError(error) };
    parentPort!.postMessage(reply);
  }
}

parentPort!.on("message", (request: WorkerRequest) => void answer(request));
