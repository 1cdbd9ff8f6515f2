import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { adamWReference } from "../../kernels/adamw/reference.ts";
import { adamW } from "../../plugins/adamw/index.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, runSeed, tiers } from "../support/gpu.ts";
import { type BenchParameter, OptimizerBench, savedFloats } from "../support/optimizer.ts";

const options = { adamBeta1: 0.9, adamBeta2: 0.999, adamEpsilon: 1e-8, weightDecay: 0.01 };
const learningRate = 1e-3;

for (const tier of tiers) {
  describe(`adamw, tier ${tier} (seed ${runSeed})`, () => {
    test("twelve updates of several parameters follow the f64 reference", async () => {
      const gpu = await gpuOf(tier);
      const sizes = { a: 1, b: 257, c: 4096, d: 70_001 };
      const initial = Object.entries(sizes).map(([name, size], i): BenchParameter => ({
        name,
        shape: [size],
        initial: normals(size, runSeed + i),
      }));
      const bench = new OptimizerBench(gpu, adamW(options), initial);
      const references = initial.map(({ initial: values }) => ({
        value: Float64Array.from(values),
        m: new Float64Array(values.length),
        v: new Float64Array(values.length),
      }));
      const factor = 0.25;
      for (let update = 1; update <= 12; update++) {
        const grads = Object.fromEntries(
          initial.map(({ name, shape }, i) => [name, normals(shape[0]!, runSeed + 100 * update + i)]),
        );
        bench.step(grads, { learningRate, update, factor });
        initial.forEach(({ name }, i) =>
          adamWReference(
            references[i]!,
            grads[name]!.map((g) => g * factor),
            options,
            learningRate,
            update,
          ),
        );
      }
      const state = await bench.optimizer.save();
      for (const [i, { name }] of initial.entries()) {
        // Twelve roundings of values near 1 (2^-24 each) and of steps of 1e-3.
        expectClose(await bench.value(name), references[i]!.value, { rtol: 1e-6, atol: 1e-6 }, name);
        expectClose(savedFloats(state, `${name}/state1`), references[i]!.m, { rtol: 1e-5, atol: 1e-6 }, `m of ${name}`);
        expectClose(savedFloats(state, `${name}/state2`), references[i]!.v, { rtol: 1e-5 }, `v of ${name}`);
      }
      bench.destroy();
    });

    test("first update by hand: decay comes after the step", async () => {
      const bench = new OptimizerBench(await gpuOf(tier), adamW({ weightDecay: 0.5 }), [
        { name: "w", shape: [3], initial: Float32Array.of(1, -2, 0) },
      ]);
      bench.step({ w: Float32Array.of(4, -4, 0) }, { learningRate: 0.1, update: 1 });
      // At t = 1 the step is lr * sign(g); then p *= 1 - 0.1 * 0.5.
      expectClose(await bench.value("w"), [0.9 * 0.95, -1.9 * 0.95, 0], { rtol: 1e-6 });
      bench.destroy();
    });

    test("gradState 1 skips everything, the step count too; a non-finite gradient leaves its element alone", async () => {
      const bench = new OptimizerBench(await gpuOf(tier), adamW(options), [
        { name: "w", shape: [5], initial: Float32Array.of(1, 2, 3, 4, 5) },
      ]);
      bench.step({ w: new Float32Array(5).fill(1) }, { learningRate, update: 1 });
      const value = await bench.value("w");
      const saved = await bench.optimizer.save();
      bench.step({ w: new Float32Array(5).fill(1) }, { learningRate, update: 2, skip: true, factor: 0 });
      expect(await bench.value("w")).toEqual(value);
      expect(await bench.optimizer.save()).toEqual(saved);
      bench.step({ w: Float32Array.of(NaN, Infinity, -Infinity, 1, 1) }, { learningRate, update: 2 });
      const after = await bench.value("w");
      const state = await bench.optimizer.save();
      expect(after.subarray(0, 3)).toEqual(value.subarray(0, 3));
      expect(after[3]).not.toBe(value[3]);
      expect([...savedFloats(state, "w/state1").subarray(0, 3)]).toEqual([0, 0, 0]);
      expect([...savedFloats(state, "w/state2").subarray(0, 3)]).toEqual([0, 0, 0]);
      expect([...state.get("step")!.data]).toEqual([2, 0, 0, 0]);
      bench.destroy();
    });

    test("saved state goes on bit for bit, and only where it fits", async () => {
      const gpu = await gpuOf(tier);
      const specs = [
        { name: "a", shape: [3, 100], initial: normals(300, runSeed) },
        { name: "b", shape: [5000], initial: normals(5000, runSeed + 1) },
      ];
      const first = new OptimizerBench(gpu, adamW(options), specs);
      const second = new OptimizerBench(gpu, adamW(options), specs);
      const grads = (update: number) => ({
        a: normals(300, runSeed + update),
        b: normals(5000, runSeed + 50 + update),
      });
      for (let update = 1; update <= 3; update++) first.step(grads(update), { learningRate, update });
      const state = await first.optimizer.save();
      second.optimizer.load(state);
      second.restore(await first.parameters.readValues());
      expect(await second.optimizer.save()).toEqual(state);
      for (const bench of [first, second]) bench.step(grads(4), { learningRate, update: 4 });
      expect(await second.parameters.readValues()).toEqual(await first.parameters.readValues());
      expect(await second.optimizer.save()).toEqual(await first.optimizer.save());

      const without = new Map([...state].filter(([name]) => name !== "b/state2"));
      expect(() => first.optimizer.load(without)).toThrow('no tensor "b/state2", expected f32 [5000]');
      const reshaped = new Map(state).set("a/state1", { ...state.get("a/state1")!, shape: [300] });
      expect(() => first.optimizer.load(reshaped)).toThrow('"a/state1" is f32 [300], expected f32 [3,100]');
      const stray = new Map(state).set("c/state1", state.get("a/state1")!);
      expect(() => first.optimizer.load(stray)).toThrow(ModelError);
      for (const bench of [first, second]) bench.destroy();
    });
  });
}
