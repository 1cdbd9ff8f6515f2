import { describe, expect, test } from "bun:test";
import type { OptimizerPlugin } from "../../core/plugin/optimizer.ts";
import { adafactor, lion8bit, muon, sgd } from "../../plugins/index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, runSeed, tiers } from "../support/gpu.ts";
import { OptimizerBench, savedCodes, savedFloats } from "../support/optimizer.ts";
import { goldenPath } from "../support/reference.ts";

const [rows, columns] = [64, 96];
const size = rows * columns;

/** A recorded run of 24 updates, and how near the parameters must come to it. */
interface Recording {
  readonly file: string;
  readonly plugin: OptimizerPlugin;
  readonly learningRate: number;
  /** Largest difference after so many updates. */
  readonly atol: (update: number) => number;
  /** Largest relative L2 error of what the parameter moved by in all. */
  readonly moved: number;
}

const recordings: readonly Recording[] = [
  // Elementwise f32 arithmetic in torch's order. A driver that fuses a multiply and an add may move the last bit of an
  // update: half a unit in the last place of a parameter below 1/4, 7.5e-9, each time.
  {
    file: "sgd-momentum",
    plugin: sgd({ momentum: 0.9 }),
    learningRate: 0.01,
    atol: (update) => 5e-8 + 7.5e-9 * update,
    moved: 1e-6,
  },
  // Bit for bit on drivers that do not fuse; a sign or a code that fell the other way would show as 2e-4.
  {
    file: "lion8bit",
    plugin: lion8bit({ weightDecay: 0.01 }),
    learningRate: 1e-4,
    atol: (update) => 1.5e-8 * (update + 1),
    moved: 1e-4,
  },
  { file: "adafactor", plugin: adafactor(), learningRate: 0.01, atol: () => 5e-8, moved: 1e-6 },
  // Each update is bf16: torch's own kernels, which sum in another order, round some elements to the neighbor (2e-6 at
  // this learning rate), and 24 updates add up.
  { file: "muon", plugin: muon(), learningRate: 1e-3, atol: (update) => (update <= 8 ? 1e-5 : 2e-5), moved: 5e-3 },
];

for (const tier of tiers) {
  describe(`recorded trajectories, tier ${tier}`, () => {
    for (const { file, plugin, learningRate, atol, moved } of recordings) {
      test(
        file,
        async () => {
          await using recorded = await openSafetensors(goldenPath("plugins", "optimizers", `${file}.safetensors`));
          const floats = async (name: string) => new Float32Array((await recorded.read(name)).slice().buffer);
          const initial = await floats("param0");
          const grads = await floats("grads");
          const bench = new OptimizerBench(await gpuOf(tier), plugin, [{ name: "w", shape: [rows, columns], initial }]);
          for (let update = 1; update <= 24; update++) {
            bench.step({ w: grads.slice((update - 1) * size, update * size) }, { learningRate, update });
            if (![1, 2, 3, 8, 24].includes(update)) continue;
            const [got, want] = [await bench.value("w"), await floats(`param.${update}`)];
            expectClose(got, want, { atol: atol(update) }, `after ${update}`);
            const path = (values: Float32Array) => values.map((x, i) => x - initial[i]!);
            if (update === 24) expectNear(path(got), path(want), moved, "what 24 updates moved");
          }
          bench.destroy();
        },
        30_000,
      );
    }
  });

  describe(`optimizers by hand, tier ${tier} (seed ${runSeed})`, () => {
    const one = async (plugin: OptimizerPlugin, shape: readonly number[], initial: readonly number[]) =>
      new OptimizerBench(await gpuOf(tier), plugin, [{ name: "w", shape, initial: Float32Array.from(initial) }]);

    test("sgd: dampening spares the first gradient, nesterov looks ahead, decay joins the gradient", async () => {
      const cases = [
        { plugin: sgd({ momentum: 0.5, dampening: 0.25 }), want: 10 - 0.1 * 2 - 0.1 * (0.5 * 2 + 0.75 * 4) },
        { plugin: sgd({ momentum: 0.5, nesterov: true }), want: 10 - 0.1 * (2 + 0.5 * 2) - 0.1 * (4 + 0.5 * (1 + 4)) },
        { plugin: sgd({ momentum: 0, weightDecay: 0.5 }), want: 10 - 0.1 * 7 - 0.1 * (4 + 0.5 * 9.3) },
      ];
      for (const { plugin, want } of cases) {
        const bench = await one(plugin, [1], [10]);
        bench.step({ w: Float32Array.of(2) }, { learningRate: 0.1, update: 1 });
        bench.step({ w: Float32Array.of(4) }, { learningRate: 0.1, update: 2 });
        expectClose(await bench.value("w"), [want], { rtol: 1e-6 });
        bench.destroy();
      }
      expect(() => sgd({ momentum: 0, nesterov: true })).toThrow("nesterov");
    });

    test("lion8bit: small parameters keep an exact momentum; a sum of zero does not move", async () => {
      const bench = await one(lion8bit({ beta1: 0.5, beta2: 0.75 }), [3], [1, 1, 1]);
      bench.step({ w: Float32Array.of(8, -8, 0) }, { learningRate: 0.25, update: 1 });
      expect([...(await bench.value("w"))]).toEqual([0.75, 1.25, 1]);
      expect([...savedFloats(await bench.optimizer.save(), "w/state1")]).toEqual([2, -2, 0]);
      bench.step({ w: Float32Array.of(-2, 4, 0) }, { learningRate: 0.25, update: 2 }); // 0.5 * 2 - 0.5 * 2 = 0
      expect([...(await bench.value("w"))]).toEqual([0.75, 1, 1]);
      expect([...savedFloats(await bench.optimizer.save(), "w/state1")]).toEqual([1, -0.5, 0]);
      bench.destroy();
    });

    test("lion8bit: a block of zero gradients holds code 127 and absmax 0; kinds of state alternate in a slab", async () => {
      const specs = [5000, 10, 4096, 4095].map((n, i) => ({
        name: `p${n}`,
        shape: [n],
        initial: normals(n, runSeed + i),
      }));
      const bench = new OptimizerBench(await gpuOf(tier), lion8bit(), specs);
      const gradient = normals(5000, runSeed + 9);
      gradient.fill(0, 256, 512);
      const before = await bench.value("p5000");
      bench.step({ p5000: gradient, p10: new Float32Array(10).fill(1) }, { learningRate: 0.01, update: 1 });
      const state = await bench.optimizer.save();
      expect(
        savedCodes(state, "p5000/state1")
          .subarray(256, 512)
          .every((code) => code === 127),
      ).toBe(true);
      expect([...savedFloats(state, "p5000/absmax1").subarray(0, 3)].map((x) => x > 0)).toEqual([true, false, true]);
      expect((await bench.value("p5000")).subarray(256, 512)).toEqual(before.subarray(256, 512));
      expect(state.get("p10/state1")).toMatchObject({ dtype: "f32", shape: [10] });
      expect(state.get("p4096/state1")).toMatchObject({ dtype: "u8", shape: [4096] });
      expect(state.get("p4095/state1")).toMatchObject({ dtype: "f32", shape: [4095] });
      bench.destroy();
    });

    test("adafactor: a vector keeps its whole second moment, the first update has the size of the parameter", async () => {
      const bench = await one(adafactor(), [4], [3, -3, 3, -3]);
      bench.step({ w: Float32Array.of(1e-3, 1, -20, 0) }, { learningRate: 0.01, update: 1 });
      // u = sign(g), root mean square sqrt(3)/2 < 1; step = rms(p) * 0.01.
      expectClose(await bench.value("w"), [2.97, -3.03, 3.03, -3], { rtol: 1e-6 });
      expectClose(savedFloats(await bench.optimizer.save(), "w/variance"), [1e-6, 1, 400, 0], { rtol: 1e-6 });
      bench.destroy();
    });

    test("adafactor: factors, clipping and decay of a matrix beside others follow the definition", async () => {
      const [height, width] = [33, 70];
      const initial = normals(height * width, runSeed);
      const gpu = await gpuOf(tier);
      const bench = new OptimizerBench(gpu, adafactor({ weightDecay: 0.1, clipThreshold: 1.5 }), [
        { name: "before", shape: [5, 2], initial: new Float32Array(10).fill(1) },
        { name: "bias", shape: [300], initial: new Float32Array(300).fill(1) },
        { name: "w", shape: [height, width], initial },
      ]);
      const state = {
        value: Float64Array.from(initial),
        rows: new Float64Array(height),
        columns: new Float64Array(width),
      };
      for (let update = 1; update <= 4; update++) {
        const w = normals(height * width, runSeed + update, 0.1 * update ** 2);
        bench.step({ w, before: w.slice(0, 10), bias: w.slice(0, 300) }, { learningRate: 0.05, update });
        adafactorByDefinition(state, w, { learningRate: 0.05, update, weightDecay: 0.1, threshold: 1.5 });
      }
      expectClose(await bench.value("w"), state.value, { rtol: 1e-5, atol: 1e-6 });
      const saved = await bench.optimizer.save();
      expect(saved.get("w/row_var")!.shape).toEqual([height, 1]);
      expect(saved.get("w/col_var")!.shape).toEqual([1, width]);
      expectClose(savedFloats(saved, "w/row_var"), state.rows, { rtol: 1e-5 });
      expectClose(savedFloats(saved, "w/col_var"), state.columns, { rtol: 1e-5 });
      bench.destroy();
    });

    test("adafactor refuses more than two dimensions by name", async () => {
      const gpu = await gpuOf(tier);
      const create = () =>
        new OptimizerBench(gpu, adafactor(), [{ name: "kernel", shape: [2, 2, 2], initial: new Float32Array(8) }]);
      expect(create).toThrow("parameter kernel is [2,2,2], expected at most two dimensions");
    });

    test("muon: updates have singular values near 1, whatever the shape, and grow with the ratio of sides", async () => {
      for (const [height, width] of [
        [5, 33],
        [70, 9],
        [1, 40],
        [33, 33],
      ] as const) {
        const bench = await one(muon({ weightDecay: 0 }), [height, width], Array<number>(height * width).fill(0));
        bench.step({ w: normals(height * width, runSeed) }, { learningRate: 1, update: 1 });
        const w = (await bench.value("w")).map((x) => x / Math.sqrt(Math.max(1, height / width)));
        const energy = w.reduce((sum, x) => sum + x * x, 0) / Math.min(height, width); // mean of squared singular values
        expect(energy).toBeGreaterThan(0.4);
        expect(energy).toBeLessThan(1.4);
        bench.destroy();
      }
    });

    test("muon: matrices of one shape are independent, and what is no matrix follows AdamW", async () => {
      const gpu = await gpuOf(tier);
      const shape = [9, 14];
      const initial = normals(126, runSeed);
      const names = ["a", "b", "c"];
      const vector = { name: "vector", shape: [7], initial: new Float32Array(7).fill(2) };
      const together = new OptimizerBench(gpu, muon(), [
        ...names.map((name) => ({ name, shape, initial })),
        vector,
        { name: "tail", shape, initial },
      ]);
      const gradient = (k: number) => normals(126, runSeed + k, 10 ** k);
      const grads = {
        a: gradient(0),
        b: gradient(1),
        c: gradient(2),
        vector: new Float32Array(7).fill(-5),
        tail: gradient(1),
      };
      together.step(grads, { learningRate: 0.1, update: 1 });
      for (const [k, name] of names.entries()) {
        const alone = await one(muon(), shape, [...initial]);
        alone.step({ w: gradient(k) }, { learningRate: 0.1, update: 1 });
        expect(await together.value(name)).toEqual(await alone.value("w"));
        alone.destroy();
      }
      expect(await together.value("tail")).toEqual(await together.value("b"));
      expectClose(await together.value("vector"), Array<number>(7).fill(2.1), { rtol: 1e-6 });
      const state = await together.optimizer.save();
      expect([...state.keys()].sort()).toEqual(
        [
          "step",
          "vector/state1",
          "vector/state2",
          ...[...names, "tail"].map((name) => `${name}/momentum_buffer`),
        ].sort(),
      );
      together.destroy();
    });
  });
}

/** One update as torch documents it, in f64. */
function adafactorByDefinition(
  state: { value: Float64Array; rows: Float64Array; columns: Float64Array },
  g: Float32Array,
  o: { learningRate: number; update: number; weightDecay: number; threshold: number },
): void {
  const { value, rows: r, columns: c } = state;
  const width = c.length;
  const rms = (x: Float64Array): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
  const mean = (count: number, at: (i: number) => number): number =>
    Array.from({ length: count }, (_, i) => at(i) ** 2).reduce((sum, v) => sum + v, 0) / count;
  const beta = 1 - o.update ** -0.8;
  r.forEach((old, i) => (r[i] = beta * old + (1 - beta) * mean(width, (j) => g[i * width + j]!)));
  c.forEach((old, j) => (c[j] = beta * old + (1 - beta) * mean(r.length, (i) => g[i * width + j]!)));
  const rowMean = r.reduce((sum, v) => sum + v, 0) / r.length;
  const u = Float64Array.from(g, (x, k) => x / Math.sqrt((r[Math.floor(k / width)]! * c[k % width]!) / rowMean));
  const alpha = Math.max(1e-3, rms(value)) * Math.min(o.learningRate, 1 / Math.sqrt(o.update));
  const clip = Math.max(1, rms(u) / o.threshold);
  value.forEach((x, k) => (value[k] = x * (1 - o.learningRate * o.weightDecay) - (alpha / clip) * u[k]!));
}
