/** What the driver holds stays within the limit, buffers that earlier batches still use included, whatever the batches. */
import { expect, test } from "bun:test";
import { NVIDIA } from "../../core/device/meta.ts";
import { adamW8bit, lora } from "../../plugins/index.ts";
import { MetaRun } from "../../runtime/planning/meta-run.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { random, runSeed } from "../support/gpu.ts";

const workOf = (layers: number) => ({
  source: benchSource(benchOptions.parse({ shape: "gemma2-2b", layers }, "bench")),
  adapter: lora({ rank: 64, dropout: 0.05, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"] }),
  numLabels: 3,
  training: {
    optimizer: ({ gpu, parameters }: Parameters<ReturnType<typeof adamW8bit>["create"]>[0]) =>
      adamW8bit().create({ gpu, parameters }),
    steps: [[1024]],
    maxSamples: undefined,
  },
});
const placement = { embeddings: "host", keepDequantized: false } as const;
const open = (layers = 4) =>
  MetaRun.open(workOf(layers), { ...NVIDIA, info: { ...NVIDIA.info, tier: "matrix" } }, placement);

const STORAGE = 0x80;

/**
 * Counts what a driver holds whose GPU is a batch behind: a destroyed buffer stays until the batch that used it last is
 * done, which is when the second after it begins, or the queue has been waited for.
 */
function watch({ gpu }: MetaRun) {
  const seen = { most: 0, waits: 0, batch: 0 };
  const { device, memory } = gpu;
  const { queue } = device;
  const lastUse = new Map<GPUBuffer, number>();
  const going = new Map<GPUBuffer, number>();
  let live = memory.report().used;
  const count = (): void => {
    for (const buffer of going.keys()) if (lastUse.get(buffer)! + 2 <= seen.batch) going.delete(buffer);
    seen.most = Math.max(
      seen.most,
      going.values().reduce((sum, size) => sum + size, live),
    );
  };
  const create = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = create(descriptor);
    if ((descriptor.usage & STORAGE) === 0) {
      // Read back: by then the queue has done all that came before.
      const map = buffer.mapAsync.bind(buffer);
      buffer.mapAsync = (mode) => map(mode).finally(() => going.clear());
      return buffer;
    }
    live += descriptor.size;
    lastUse.set(buffer, seen.batch);
    count();
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      destroy();
      live -= descriptor.size;
      going.set(buffer, descriptor.size);
    };
    return buffer;
  };
  const free = memory.free.bind(memory);
  memory.free = (buffer) => {
    lastUse.set(buffer, seen.batch);
    free(buffer);
  };
  const done = queue.onSubmittedWorkDone.bind(queue);
  queue.onSubmittedWorkDone = async () => {
    await done();
    going.clear();
    seen.waits++;
  };
  return seen;
}

/** A run under a limit that a batch of `largest` tokens barely fits. */
async function openTight(largest: number) {
  const roomy = await open();
  await roomy.gradients([largest], "none");
  const run = await open();
  const limit = Math.ceil(roomy.gpu.memory.report().peak * 1.05);
  run.gpu.memory.trim();
  run.gpu.memory.limit = limit;
  return { run, limit, seen: watch(run) };
}

test(`batches of ever new sizes, some without gradients (seed ${runSeed})`, async () => {
  const { run, limit, seen } = await openTight(4096);
  const next = random(runSeed);
  for (seen.batch = 0; seen.batch < 60; seen.batch++) {
    const tokens = seen.batch % 20 === 5 ? 1 + Math.floor(next() * 100) : Math.floor(2200 + 1800 * next());
    if (seen.batch % 7 === 6) await run.logits([tokens]);
    else await run.gradients([tokens], "none");
  }
  expect(seen.most).toBeGreaterThan(0.8 * limit);
  // What a batch needs is estimated from those before it; without waiting it was 1.7 to 1.85 times the limit.
  expect(seen.most).toBeLessThan(1.08 * limit);
}, 60_000);

test(`micro-batches of packed samples (seed ${runSeed})`, async () => {
  const { run, limit, seen } = await openTight(4096);
  const next = random(runSeed);
  for (seen.batch = 0; seen.batch < 100; seen.batch++) await run.gradients([Math.floor(3300 + 600 * next())], "none");
  expect(seen.most).toBeLessThan(1.02 * limit);
  expect(seen.waits).toBeLessThan(50); // most of them while sizes are new
}, 60_000);

test("batches of one size wait for nothing", async () => {
  // Layers enough that the scratch of one of them is no tenth of the whole, from which on a pool counts as hoarded.
  const run = await open(8);
  await run.gradients([2048], "none");
  run.gpu.memory.limit = run.gpu.memory.report().peak;
  const seen = watch(run);
  for (seen.batch = 0; seen.batch < 5; seen.batch++) await run.gradients([2048], "none");
  expect(seen).toMatchObject({ most: 0, waits: 0 });
});
