/** The queue of a server: what goes together, what is refused, who leaves. */
import { expect, test } from "bun:test";
import { Batcher, type BatchStats } from "../../sdk/serve/batcher.ts";
import { failure } from "../support/failure.ts";

/** Rows of so many tokens, all of them `id`. */
const rows = (id: number, ...lengths: readonly number[]): Uint32Array[] =>
  lengths.map((length) => new Uint32Array(length).fill(id));

/** A batcher whose GPU is let on batch by batch; a row's logits are its first token and its length. */
function make({ maxTokens = 10, maxSamples = 4, maxQueueTokens = 100 } = {}) {
  const batches: { adapter: string; rows: [number, number][] }[] = [];
  const stats: BatchStats[] = [];
  let gate = Promise.withResolvers<void>();
  let broken: Error | undefined;
  const batcher = new Batcher({
    limits: { maxTokens, maxSamples },
    maxQueueTokens,
    onBatch: (each) => stats.push(each),
    async run(adapter, given) {
      batches.push({ adapter, rows: given.map((row) => [row[0]!, row.length]) });
      await gate.promise;
      if (broken !== undefined) throw broken;
      return given.map((row) => Float32Array.of(row[0]!, row.length));
    },
  });
  return {
    batcher,
    batches,
    stats,
    open: () => gate.resolve(),
    close: () => void (gate = Promise.withResolvers()),
    fail: (error: Error | undefined) => void (broken = error),
  };
}

test("requests of one turn share a batch up to its tokens and rows; each gets its own logits in order", async () => {
  const { batcher, batches, stats, open } = make();
  const answers = [
    batcher.submit("a", rows(1, 3, 4)),
    batcher.submit("a", rows(2, 2, 5)),
    batcher.submit("a", rows(3, 1)),
  ];
  open();
  expect((await Promise.all(answers)).map((each) => each.map((row) => [...row]))).toEqual([
    [
      [1, 3],
      [1, 4],
    ],
    [
      [2, 2],
      [2, 5],
    ],
    [[3, 1]],
  ]);
  expect(batches.map((batch) => batch.rows)).toEqual([
    [
      [1, 3],
      [1, 4],
      [2, 2],
    ],
    [
      [2, 5],
      [3, 1],
    ],
  ]);
  expect(stats.map(({ rows: n, tokens }) => [n, tokens])).toEqual([
    [3, 9],
    [2, 6],
  ]);
  expect(batcher.state).toEqual({ requests: 0, rows: 0, tokens: 0 });
});

test("a row longer than a batch goes alone; many short ones are cut by the number of rows", async () => {
  const { batcher, batches, open } = make();
  open();
  await batcher.submit("a", rows(1, 25, 1, 1, 1, 1, 1));
  expect(batches.map((batch) => batch.rows.length)).toEqual([1, 4, 1]);
});

test("a batch holds one adapter's rows; the request that has waited longest says whose", async () => {
  const { batcher, batches, open } = make();
  const answers = [batcher.submit("a", rows(1, 1)), batcher.submit("b", rows(2, 1)), batcher.submit("a", rows(3, 1))];
  open();
  await Promise.all(answers);
  expect(batches).toEqual([
    {
      adapter: "a",
      rows: [
        [1, 1],
        [3, 1],
      ],
    },
    { adapter: "b", rows: [[2, 1]] },
  ]);
});

test("a full queue refuses, but never a request that finds it empty", async () => {
  const { batcher, open } = make({ maxQueueTokens: 6 });
  const first = batcher.submit("a", rows(1, 9)); // larger than the queue, which is empty
  expect(await failure(batcher.submit("a", rows(2, 1)))).toContain("9 tokens wait already, 1 more would exceed 6");
  open();
  await first;
  expect(await batcher.submit("a", rows(2, 1))).toHaveLength(1);
});

test("who goes away leaves the queue, and its rows are not computed", async () => {
  const { batcher, batches, open } = make();
  const first = batcher.submit("a", rows(1, 10));
  await Promise.resolve(); // the first batch is on its way
  await Promise.resolve();
  const abort = new AbortController();
  const gone = batcher.submit("a", rows(2, 5), abort.signal);
  const after = batcher.submit("a", rows(3, 5));
  abort.abort();
  expect(await failure(gone)).toContain("the client has gone");
  expect(batcher.state).toEqual({ requests: 2, rows: 1, tokens: 5 });
  open();
  await Promise.all([first, after]);
  expect(batches.flatMap((batch) => batch.rows.map(([id]) => id))).toEqual([1, 3]);
});

test("a batch that fails fails its own requests; later ones are served", async () => {
  const { batcher, fail, open } = make();
  fail(new Error("the GPU is lost"));
  open();
  expect(await failure(batcher.submit("a", rows(1, 1)))).toContain("the GPU is lost");
  fail(undefined);
  expect(await batcher.submit("a", rows(2, 1))).toHaveLength(1);
  await batcher.idle();
  expect(batcher.state).toEqual({ requests: 0, rows: 0, tokens: 0 });
});
