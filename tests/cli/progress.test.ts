import { expect, test } from "bun:test";
import { createProgress, type ProgressStream } from "../../cli/progress.ts";
import type { StepEvent } from "../../runtime/events.ts";

function fakeStream(isTTY: boolean): ProgressStream & { text: string } {
  return {
    isTTY,
    columns: 200,
    text: "",
    write(chunk: string) {
      this.text += chunk;
    },
  };
}

const step = (n: number): StepEvent => ({
  type: "step",
  step: n,
  totalSteps: 101,
  epoch: n / 50,
  loss: 1,
  learningRate: 2e-4,
  samplesPerSecond: 4.25,
  tokensPerSecond: 2750,
  memoryBytes: 1.5 * 2 ** 30,
});

test("on a terminal one line is rewritten, at most ten times a second", () => {
  const stream = fakeStream(true);
  let now = 0;
  const { listen, end } = createProgress(stream, () => now);
  listen(step(1));
  now = 50;
  listen(step(2)); // too soon
  now = 30_000;
  listen(step(11));
  expect(stream.text.split("\r\u001B[K").slice(1)).toEqual([
    "step 1/101  epoch 0.02  loss 1.0000  lr 2.00e-4  4.25 samples/s  2750 tokens/s  ETA ?  1.50 GiB",
    // ten steps in 30 s from the first: 90 more take 270 s
    "step 11/101  epoch 0.22  loss 1.0000  lr 2.00e-4  4.25 samples/s  2750 tokens/s  ETA 4:30  1.50 GiB",
  ]);
  listen({ type: "save", step: 11, path: "output/checkpoint-11" });
  expect(stream.text).toEndWith("\r\u001B[Kstep 11: saved output/checkpoint-11\n");
  now = 3_723_000;
  end();
  expect(stream.text).toEndWith("done in 1:02:03\n");
});

test("elsewhere steps are silent and logs are plain lines", () => {
  const stream = fakeStream(false);
  const { listen } = createProgress(stream, () => 0);
  listen(step(1));
  listen({ type: "progress", what: "tokenizing", done: 1, total: 2 });
  expect(stream.text).toBe("");
  listen({ type: "warning", message: "a word" });
  expect(stream.text).toBe("warning: a word\n");
});

test("elsewhere long work says how far it is every ten seconds, and how long is left", () => {
  const stream = fakeStream(false);
  let now = 0;
  const { listen } = createProgress(stream, () => now);
  const progress = (done: number): void => listen({ type: "progress", what: "predicting", done, total: 20_000 });
  for (; now <= 25_000; now += 1000) progress(8 + now / 100);
  expect(stream.text).toBe("predicting 108/20000  ETA 33:09\npredicting 208/20000  ETA 32:59\n");
  now = 40_000;
  listen({ type: "progress", what: "predicting, A and B exchanged", done: 20_000, total: 20_000 });
  expect(stream.text).toEndWith("\npredicting, A and B exchanged 20000/20000\n");
});
