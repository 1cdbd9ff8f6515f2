/** How kernels compile ahead of the steps that need them: in order of need, a few at once, each once, until the run ends. */
import { describe, expect, test } from "bun:test";
import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import { KernelWarmup } from "../../runtime/planning/kernel-warmup.ts";
import { turns, until } from "../support/until.ts";

const spec = { code: "", bindings: [] };
const named = (...keys: readonly string[]): Gpu["kernelSpecs"] => new Map(keys.map((key) => [key, spec]));

/** A GPU whose driver compiles when it is told to, in the order of the calls. */
function slowDriver(): {
  readonly gpu: Gpu;
  /** Every pipeline asked of the driver, in turn. */
  readonly asked: string[];
  readonly mostAtOnce: () => number;
  /** Ends the oldest that is under way. */
  readonly finish: (error?: Error) => Promise<void>;
} {
  const gpu = metaGpu(NVIDIA);
  const asked: string[] = [];
  const underWay: PromiseWithResolvers<GPUComputePipeline>[] = [];
  let most = 0;
  gpu.device.createComputePipelineAsync = (descriptor) => {
    asked.push(descriptor.label!);
    const pipeline = Promise.withResolvers<GPUComputePipeline>();
    underWay.push(pipeline);
    most = Math.max(most, underWay.length);
    return pipeline.promise;
  };
  const finish = async (error?: Error): Promise<void> => {
    const { resolve, reject } = underWay.shift()!;
    if (error === undefined) resolve({} as GPUComputePipeline);
    else reject(error);
    await Bun.sleep(0);
  };
  return { gpu, asked, mostAtOnce: () => most, finish };
}

const cores = navigator.hardwareConcurrency;
const lanes = cores > 8 ? 8 : Math.max(1, cores - 1);

/** Whether a promise is settled by now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => (done = true),
    () => (done = true),
  );
  await Bun.sleep(0);
  return done;
}

describe("a queue of kernels", () => {
  test("has as many under way as there are cores to spare, and goes through all", async () => {
    const { gpu, asked, mostAtOnce, finish } = slowDriver();
    const keys = Array.from({ length: 20 }, (_, i) => `kernel ${i}`);
    const seen: string[] = [];
    const compiled = gpu.compile(named(...keys), { onProgress: (done, total) => seen.push(`${done}/${total}`) });
    for (let i = 0; i < 20; i++) await finish();
    await compiled;
    expect(mostAtOnce()).toBe(lanes);
    expect(asked).toEqual(keys);
    expect(seen).toEqual(Array.from({ length: 21 }, (_, i) => `${i}/20`));
  });

  test("what is waited for goes before what is not, and nothing is compiled twice", async () => {
    const { gpu, asked, finish } = slowDriver();
    const first = Array.from({ length: lanes }, (_, i) => `under way ${i}`);
    const later = gpu.compile(named(...first, "a", "b"), { later: true });
    const now = gpu.compile(named("b", first[0]!, "c"));
    for (let i = 0; i < lanes + 2; i++) await finish();
    await now;
    expect(asked).toEqual([...first, "b", "c", "a"]);
    expect(await settled(later)).toBe(false);
    await finish();
    await later;
    await gpu.compile(named("a", "b", "c", ...first));
    expect(asked).toHaveLength(lanes + 3);
  });

  test("given up: what waits is refused, what is under way is waited for", async () => {
    const { gpu, asked, finish } = slowDriver();
    const keys = Array.from({ length: lanes + 1 }, (_, i) => `kernel ${i}`);
    const compiled = gpu.compile(named(...keys), { later: true });
    const stopped = gpu.stopCompiling();
    expect(await compiled.catch((error: unknown) => error)).toMatchObject({ code: "COMPILE_GIVEN_UP" });
    for (let i = 0; i < lanes; i++) {
      expect(await settled(stopped)).toBe(false);
      await finish();
    }
    await stopped;
    expect(asked).toHaveLength(lanes);
  });
});

test("a GPU that is closed compiles nothing more", async () => {
  const { gpu, asked } = slowDriver();
  gpu.destroy();
  const error = await gpu.compile(named("late")).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ name: "DeviceError", code: "COMPILE_GIVEN_UP" });
  expect(asked).toEqual([]);
});

describe("the kernels of a run", () => {
  const batch = (tokens: number): BatchShape => ({ lengths: [tokens], training: true });
  /** A batch of n tokens needs the kernel "n" and the kernel "common". */
  const forecast = {
    always: async () => named("common"),
    of: async ({ lengths }: BatchShape) => named("common", String(lengths[0])),
  };
  async function* upcoming(...steps: readonly (readonly number[])[]): AsyncGenerator<BatchShape[]> {
    for (const step of steps) yield step.map(batch);
  }

  test("those of the first step are waited for, the rest come after it, in the order of the steps", async () => {
    const { gpu, asked, finish } = slowDriver();
    await using kernels = new KernelWarmup({ gpu, forecast }, upcoming([1, 2], [2, 3], [4]));
    const first = kernels.compileFirst(() => {});
    for (let i = 0; i < 3; i++) {
      await until("a kernel is asked for", () => asked.length > i);
      await finish();
    }
    await first;
    expect(asked).toEqual(["common", "1", "2"]);
    kernels.continue();
    const all = kernels.done();
    for (let i = 0; i < 2; i++) {
      await until("a later kernel is asked for", () => asked.length > 3 + i);
      await finish();
    }
    await all;
    expect(asked).toEqual(["common", "1", "2", "3", "4"]);
  });

  test("a step waits for its kernel under way, and says so; for one that nobody foresaw too", async () => {
    const { gpu, asked, finish } = slowDriver();
    const events: unknown[] = [];
    await using kernels = new KernelWarmup({ gpu, forecast }, upcoming([], [3]), (event) => events.push(event));
    const first = kernels.compileFirst(() => {});
    await until("the first kernel is asked for", () => asked.length === 1);
    await finish();
    await first;
    kernels.continue();
    await until("the next is asked for", () => asked.length > 1);
    expect(asked).toEqual(["common", "3"]);
    const prepared = kernels.prepare(batch(3));
    expect(await settled(prepared)).toBe(false);
    await finish();
    await prepared;
    expect(asked).toEqual(["common", "3"]);
    const progress = { type: "progress", what: "compiling kernels", total: 1 };
    expect(events).toEqual([
      { ...progress, done: 0 },
      { ...progress, done: 1 },
    ]);
    const unforeseen = kernels.prepare(batch(9));
    await until("it is asked for", () => asked.length > 2);
    await finish();
    await unforeseen;
    expect(asked).toEqual(["common", "3", "9"]);
    await kernels.prepare(batch(3)); // everything is there
    expect(events).toHaveLength(4);
  });

  test("one that does not compile in the background fails the next step, whatever it needs", async () => {
    const { gpu, asked, finish } = slowDriver();
    await using kernels = new KernelWarmup({ gpu, forecast }, upcoming([], [3]));
    const first = kernels.compileFirst(() => {});
    await until("the first kernel is asked for", () => asked.length === 1);
    await finish();
    await first;
    kernels.continue();
    await until("the next is asked for", () => asked.length > 1);
    await finish(new Error("3:7: unresolved value 'nonsense'"));
    await kernels.done().catch(() => {}); // the failure is known now, and stays
    const error = await kernels.prepare(batch(1)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "DeviceError", code: "KERNEL_INVALID" });
    expect((error as Error).message).toContain("unresolved value 'nonsense'");
  });

  test("stopped, it asks for nothing more, though batches go on coming", async () => {
    const { gpu, asked, finish } = slowDriver();
    const kernels = new KernelWarmup({ gpu, forecast }, upcoming([], ...Array.from({ length: 50 }, (_, i) => [i + 1])));
    const first = kernels.compileFirst(() => {});
    await until("the first kernel is asked for", () => asked.length === 1);
    await finish();
    await first;
    kernels.continue();
    await until("later ones are asked for", () => asked.length > lanes);
    const before = asked.length;
    const ended = kernels[Symbol.asyncDispose]();
    for (let i = 0; i < before - 1; i++) await finish();
    await ended;
    await turns();
    expect(asked).toHaveLength(before);
  });

  test("rows that cannot be tokenized end the look ahead: the step that needs them tells", async () => {
    const { gpu, asked, finish } = slowDriver();
    async function* broken(): AsyncGenerator<BatchShape[]> {
      yield [];
      throw new Error("row 7 cannot be tokenized");
    }
    await using kernels = new KernelWarmup({ gpu, forecast }, broken());
    const first = kernels.compileFirst(() => {});
    await Bun.sleep(0);
    await finish();
    await first;
    kernels.continue();
    await kernels.done();
    expect(asked).toEqual(["common"]);
  });
});
