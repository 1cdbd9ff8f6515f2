import { describe, expect, test } from "bun:test";
import type { SavedTensor } from "../../core/compute/saved-state.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { createDynamicMap } from "../../core/formats/dynamic-map.ts";
import { adamWReference } from "../../kernels/adamw/reference.ts";
import { adamW8bitReference, freshReferenceState } from "../../kernels/adamw8bit/reference.ts";
import { adamW8bit } from "../../plugins/adamw8bit/index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, runSeed, tiers } from "../support/gpu.ts";
import { OptimizerBench, savedCodes, savedFloats } from "../support/optimizer.ts";
import { goldenPath } from "../support/reference.ts";

const options = { adamBeta1: 0.9, adamBeta2: 0.999, adamEpsilon: 1e-8, weightDecay: 0.01 };
const learningRate = 1e-3;
const maps = { signed: createDynamicMap(true), unsigned: createDynamicMap(false) };

/** Counts codes that differ, where the block has an absmax at all; a difference must be of neighbors. */
function differingCodes(got: Uint8Array, want: Uint8Array, absmax: Float32Array, what: string): number {
  let differing = 0;
  for (const [i, code] of want.entries()) {
    if (got[i] === code || absmax[Math.floor(i / 256)] === 0) continue;
    if (Math.abs(got[i]! - code) > 1) throw new Error(`${what}: code ${got[i]} at ${i}, want ${code}: not a near-tie`);
    differing++;
  }
  return differing;
}

interface Golden {
  readonly floats: (name: string) => Float32Array<ArrayBuffer>;
  readonly codes: (name: string) => Uint8Array;
}

async function golden(): Promise<Golden> {
  await using file = await openSafetensors(goldenPath("adamw8bit", "trajectory.safetensors"));
  const all = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of file.tensors.keys()) all.set(name, (await file.read(name)).slice());
  return { floats: (name) => new Float32Array(all.get(name)!.buffer), codes: (name) => all.get(name)! };
}

for (const tier of tiers) {
  describe(`adamw8bit, tier ${tier} (seed ${runSeed})`, () => {
    test("bitsandbytes' own trajectory of 24 updates", async () => {
      const { floats, codes } = await golden();
      expect(maps.signed).toEqual(floats("qmap1"));
      const bench = new OptimizerBench(await gpuOf(tier), adamW8bit({ weightDecay: 0.01 }), [
        { name: "small", shape: [100], initial: floats("small0") },
        { name: "param", shape: [12_545], initial: floats("param0") },
      ]);
      const grads = floats("grads");
      const smallGrads = floats("small_grads");
      for (let update = 1; update <= 24; update++) {
        const param = grads.slice((update - 1) * 12_545, update * 12_545);
        bench.step({ param, small: smallGrads.slice((update - 1) * 100, update * 100) }, { learningRate, update });
        if (![1, 2, 3, 8, 24].includes(update)) continue;
        expectClose(await bench.value("param"), floats(`param.${update}`), { atol: 1e-5 }, `param after ${update}`);
        expectClose(await bench.value("small"), floats(`small.${update}`), { atol: 1e-6 }, `small after ${update}`);
        const state = await bench.optimizer.save();
        for (const k of [1, 2]) {
          const absmax = floats(`absmax${k}.${update}`);
          const what = `state${k} after ${update}`;
          expectClose(savedFloats(state, `param/absmax${k}`), absmax, { rtol: 1e-5 }, `absmax${k} after ${update}`);
          const differing = differingCodes(
            savedCodes(state, `param/state${k}`),
            codes(`state${k}.${update}`),
            absmax,
            what,
          );
          expect(differing).toBeLessThan(12.545); // 0.1 %
        }
      }
      bench.destroy();
    }, 30_000);

    test("parameters on both sides of 4096 elements share a slab; each update is the reference's of the state before", async () => {
      const sizes = [257, 4095, 4096, 4097, 1, 20_000];
      const specs = sizes.map((size, i) => ({ name: `p${size}`, shape: [size], initial: normals(size, runSeed + i) }));
      const bench = new OptimizerBench(await gpuOf(tier), adamW8bit(options), specs);
      expect(bench.parameters.slabs.length).toBe(1);
      const eight = new Map(specs.map(({ name, initial }) => [name, freshReferenceState(initial)]));
      const exact = new Map(
        specs.map(({ name, initial }) => [
          name,
          {
            value: Float64Array.from(initial),
            m: new Float64Array(initial.length),
            v: new Float64Array(initial.length),
          },
        ]),
      );
      const factor = 0.5;
      // A moment that lies between two codes may fall to either, and what follows differs by the gap, which nothing small
      // bounds. So the reference takes each update from the values, codes and absmax that the device had before it.
      const near = { rtol: 2 ** -22, atol: 2e-8 }; // a value is rounded twice, a step of 1e-3 ten times
      // Three roundings of terms below 0.023, the largest gradient; the sum of the terms may be small.
      const first = { rtol: 1e-6, atol: 4e-9 };
      for (let update = 1; update <= 6; update++) {
        const grads = Object.fromEntries(
          specs.map(({ name, shape }, i) => [name, normals(shape[0]!, runSeed + 31 * update + i, 0.01)]),
        );
        bench.step(grads, { learningRate, update, factor });
        const state = await bench.optimizer.save();
        for (const { name, initial } of specs) {
          const g = grads[name]!.map((x) => x * factor);
          const what = `${name} after ${update}`;
          const got = await bench.value(name);
          if (initial.length < 4096) {
            const want = exact.get(name)!;
            const [m, v] = [1, 2].map((k) => savedFloats(state, `${name}/state${k}`)) as [Float32Array, Float32Array];
            adamWReference(want, g, options, learningRate, update);
            expectClose(got, want.value, near, what);
            expectClose(m, want.m, first, `m of ${what}`);
            expectClose(v, want.v, { rtol: 1e-6 }, `v of ${what}`);
            expect(state.has(`${name}/absmax1`)).toBe(false);
            exact.set(name, { value: Float64Array.from(got), m: Float64Array.from(m), v: Float64Array.from(v) });
            continue;
          }
          const want = eight.get(name)!;
          adamW8bitReference(want, g, options, learningRate, update);
          expectClose(got, want.value, near, what);
          const parts = ([1, 2] as const).map((k) => {
            const codes = savedCodes(state, `${name}/state${k}`);
            const absmax = savedFloats(state, `${name}/absmax${k}`);
            expectClose(absmax, want[`absmax${k}`], k === 1 ? first : { rtol: 1e-6 }, `absmax${k} of ${what}`);
            const differing = differingCodes(codes, want[`codes${k}`], absmax, `state${k} of ${what}`);
            expect(differing).toBeLessThanOrEqual(3);
            return { codes, absmax };
          });
          eight.set(name, {
            value: Float64Array.from(got),
            codes1: parts[0]!.codes,
            codes2: parts[1]!.codes,
            absmax1: parts[0]!.absmax,
            absmax2: parts[1]!.absmax,
          });
        }
      }
      await expectZeroPadding(await gpuOf(tier), bench);
      bench.destroy();
    });

    test("a block of zero gradients stays put and codes nothing", async () => {
      const bench = new OptimizerBench(await gpuOf(tier), adamW8bit(), [
        { name: "w", shape: [4096], initial: normals(4096, runSeed) },
      ]);
      const before = await bench.value("w");
      const grad = normals(4096, runSeed + 1);
      grad.fill(0, 256, 512);
      for (let update = 1; update <= 3; update++) bench.step({ w: grad }, { learningRate, update });
      const after = await bench.value("w");
      expect(after.subarray(256, 512)).toEqual(before.subarray(256, 512));
      expect(after.every(Number.isFinite)).toBe(true);
      const state = await bench.optimizer.save();
      expect(savedFloats(state, "w/absmax1")[1]).toBe(0);
      expect(savedFloats(state, "w/absmax2")[1]).toBe(0);
      expect(savedFloats(state, "w/absmax1")[0]).toBeGreaterThan(0);
      bench.destroy();
    });

    test("a tiny negative moment never becomes zero, a tiny positive one may", async () => {
      const bench = new OptimizerBench(await gpuOf(tier), adamW8bit(), [
        { name: "w", shape: [4096], initial: new Float32Array(4096) },
      ]);
      const grad = new Float32Array(4096).fill(1e-9);
      grad.fill(-1e-9, 1, 256);
      grad[0] = 1;
      bench.step({ w: grad }, { learningRate, update: 1 });
      const codes = savedCodes(await bench.optimizer.save(), "w/state1");
      expect(codes[0]).toBe(255);
      expect([...new Set(codes.subarray(1, 256))]).toEqual([126]);
      grad.fill(1e-9, 1, 256);
      bench.step({ w: grad }, { learningRate, update: 2 });
      expect(savedCodes(await bench.optimizer.save(), "w/state1")[1]).toBe(126); // 0.9 * -5.5e-7 * absmax outweighs it
      bench.destroy();
    });

    test("gradState 1 skips everything; a non-finite gradient leaves its element alone and clears its moments", async () => {
      const specs = [
        { name: "w", shape: [4096], initial: normals(4096, runSeed) },
        { name: "s", shape: [7], initial: normals(7, runSeed + 1) },
      ];
      const bench = new OptimizerBench(await gpuOf(tier), adamW8bit(options), specs);
      const ones = { w: new Float32Array(4096).fill(1), s: new Float32Array(7).fill(1) };
      bench.step(ones, { learningRate, update: 1 });
      const before = await bench.parameters.readValues();
      const state = await bench.optimizer.save();
      bench.step(ones, { learningRate, update: 2, skip: true, factor: 0 });
      expect(await bench.parameters.readValues()).toEqual(before);
      expect(await bench.optimizer.save()).toEqual(state);

      const bad = { w: ones.w.slice(), s: ones.s.slice() };
      for (const [i, x] of [NaN, Infinity, -Infinity].entries()) bad.w[i * 5] = bad.s[i * 2] = x;
      bench.step(bad, { learningRate, update: 2 });
      const after = await bench.parameters.readValues();
      const last = await bench.optimizer.save();
      for (const i of [0, 1, 2]) {
        expect(after.get("w")![i * 5]).toBe(before.get("w")![i * 5]);
        expect(after.get("s")![i * 2]).toBe(before.get("s")![i * 2]);
        expect(savedCodes(last, "w/state1")[i * 5]).toBe(127);
        expect(savedCodes(last, "w/state2")[i * 5]).toBe(0);
        expect(savedFloats(last, "s/state1")[i * 2]).toBe(0);
      }
      expect(after.get("w")!.every(Number.isFinite)).toBe(true);
      expect(after.get("w")![1]).not.toBe(before.get("w")![1]);
      bench.destroy();
    });

    test("saved state goes on bit for bit", async () => {
      const gpu = await gpuOf(tier);
      const [first, second] = [await trained(gpu, 3), await trained(gpu, 0)];
      const state = await first.optimizer.save();
      expect(state.get("big/state1")).toMatchObject({ dtype: "u8", shape: [17, 301] });
      expect(state.get("big/absmax1")).toMatchObject({ dtype: "f32", shape: [20] });
      expect(state.get("small/state1")).toMatchObject({ dtype: "f32", shape: [300] });
      expect([...state.get("step")!.data]).toEqual([3, 0, 0, 0]);
      second.optimizer.load(state);
      second.restore(await first.parameters.readValues());
      expect(await second.optimizer.save()).toEqual(state);
      for (const bench of [first, second]) {
        for (let update = 4; update <= 6; update++) bench.step(gradsOf(update), { learningRate, update });
      }
      expect(await second.parameters.readValues()).toEqual(await first.parameters.readValues());
      expect(await second.optimizer.save()).toEqual(await first.optimizer.save());
      await expectZeroPadding(gpu, second);
      for (const bench of [first, second]) bench.destroy();
    });

    test("a saved state that does not fit names its tensor and changes nothing", async () => {
      const bench = await trained(await gpuOf(tier), 2);
      const state = await bench.optimizer.save();
      const changed = (name: string, change: Partial<SavedTensor>): Map<string, SavedTensor> =>
        new Map(state).set(name, { ...state.get(name)!, ...change });
      const load = (saved: Map<string, SavedTensor>) => () => bench.optimizer.load(saved);
      expect(load(changed("big/state1", { shape: [5117] }))).toThrow('"big/state1" is u8 [5117], expected u8 [17,301]');
      expect(load(changed("big/absmax2", { shape: [3], data: new Uint8Array(12) }))).toThrow(
        '"big/absmax2" is f32 [3]',
      );
      expect(load(changed("small/state1", { dtype: "u8" }))).toThrow('"small/state1" is u8 [300], expected f32 [300]');
      expect(load(changed("big/state2", { data: new Uint8Array(3) }))).toThrow("has 3 bytes, expected 5117");
      expect(load(changed("qmap1", { data: new Uint8Array(1024) }))).toThrow('"qmap1" is another 8-bit map');
      expect(load(new Map(state).set("x/state1", state.get("qmap1")!))).toThrow('a tensor "x/state1"');
      expect(load(new Map())).toThrow('no tensor "step"');
      expect(await bench.optimizer.save()).toEqual(state);
      bench.destroy();
    });
  });
}

/** What lies between parameters must never move. */
async function expectZeroPadding(gpu: Gpu, bench: OptimizerBench): Promise<void> {
  for (const slab of bench.parameters.slabs) {
    const all = await gpu.readFloats(slab.value);
    for (const p of slab.parameters) {
      const end = p.start + Math.ceil(p.size / 256) * 256;
      expect(all.subarray(p.start + p.size, end).every((x) => x === 0)).toBe(true);
    }
  }
}

const gradsOf = (update: number) => ({
  small: normals(300, runSeed + update),
  big: normals(5117, runSeed + 50 + update),
});

async function trained(gpu: Gpu, updates: number): Promise<OptimizerBench> {
  const bench = new OptimizerBench(gpu, adamW8bit(options), [
    { name: "small", shape: [300], initial: normals(300, runSeed) },
    { name: "big", shape: [17, 301], initial: normals(5117, runSeed + 1) },
  ]);
  for (let update = 1; update <= updates; update++) bench.step(gradsOf(update), { learningRate, update });
  return bench;
}
