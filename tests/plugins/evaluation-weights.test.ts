/** Optimizers that give other values for evaluation: schedule-free AdamW and EMA against their published algorithms in f64, and what they wrap. */
import { describe, expect, test } from "bun:test";
import type { Optimizer } from "../../core/plugin/optimizer.ts";
import { type OptimizerPlugin, defineOptimizerWrapper, defineOptions, option, slabStates } from "../../core/index.ts";
import { isPlugin } from "../../core/plugin/factory.ts";
import { adamW, ema, scheduleFreeAdamW, sgd } from "../../plugins/index.ts";
import { expectNear } from "../support/close.ts";
import { gpuOf, normals, runSeed, tiers } from "../support/gpu.ts";
import { OptimizerBench } from "../support/optimizer.ts";

const SIZE = 300;
const initial = normals(SIZE, runSeed);
const gradientOf = (update: number): Float32Array<ArrayBuffer> => normals(SIZE, runSeed + update, 0.3);

const benchOf = async (tier: (typeof tiers)[number], plugin: OptimizerPlugin): Promise<OptimizerBench> =>
  new OptimizerBench(await gpuOf(tier), plugin, [{ name: "w", shape: [SIZE], initial }]);

/** The value that evaluation sees, and the one that training goes on with. */
async function bothOf(bench: OptimizerBench): Promise<{ evaluated: Float32Array; trained: Float32Array }> {
  const before = await bench.value("w");
  bench.optimizer.evaluating!(true);
  const evaluated = await bench.value("w");
  bench.optimizer.evaluating!(false);
  const trained = await bench.value("w");
  expect(trained).toEqual(before); // bit for bit
  return { evaluated, trained };
}

/** AdamWScheduleFree.step of facebookresearch/schedule_free 1.4, foreach=False, in f64; x is read as its eval() makes it. */
class Published {
  readonly y = Float64Array.from(initial);
  readonly z = Float64Array.from(initial);
  readonly #v = new Float64Array(SIZE);
  #k = 0;
  #lrMax = -1;
  #weightSum = 0;

  step(gradient: ArrayLike<number>, lr: number, o: { decay: number; r: number; power: number }): void {
    const [beta1, beta2, eps] = [0.9, 0.999, 1e-8];
    const correction2 = 1 - beta2 ** (this.#k + 1);
    this.#lrMax = Math.max(lr, this.#lrMax);
    const weight = (this.#k + 1) ** o.r * this.#lrMax ** o.power;
    this.#weightSum += weight;
    const ckp1 = this.#weightSum === 0 ? 0 : weight / this.#weightSum;
    for (let i = 0; i < SIZE; i++) {
      const g = gradient[i]!;
      this.#v[i] = beta2 * this.#v[i]! + (1 - beta2) * g * g;
      const normalized = g / (Math.sqrt(this.#v[i]! / correction2) + eps) + o.decay * this.y[i]!;
      this.y[i]! += ckp1 * (this.z[i]! - this.y[i]!);
      this.y[i]! += lr * (beta1 * (1 - ckp1) - 1) * normalized;
      this.z[i]! -= lr * normalized;
    }
    this.#k++;
  }

  /** p.lerp_(end=z, weight=1 - 1 / beta1) */
  get x(): Float64Array {
    return this.y.map((y, i) => y + (1 - 1 / 0.9) * (this.z[i]! - y));
  }
}

describe.each(tiers)("tier %s", (tier) => {
  test.each([
    { decay: 0, r: 0, power: 2 },
    { decay: 0.05, r: 1, power: 1 },
  ])("schedule-free AdamW is the published algorithm: %o", async (o) => {
    const plugin = scheduleFreeAdamW({ weightDecay: o.decay, r: o.r, weightLrPower: o.power });
    const bench = await benchOf(tier, plugin);
    const published = new Published();
    for (let update = 1; update <= 30; update++) {
      const learningRate = 0.02 * Math.min(1, update / 10); // a warmup, as users of it have
      bench.step({ w: gradientOf(update) }, { learningRate, update });
      published.step(gradientOf(update), learningRate, o);
    }
    const { evaluated, trained } = await bothOf(bench);
    const moved = (values: ArrayLike<number>) => Float64Array.from(initial, (p, i) => values[i]! - p);
    expectNear(moved(trained), moved(published.y), 1e-5, "what training moved y by");
    expectNear(moved(evaluated), moved(published.x), 1e-5, "what it moved the average x by");
    bench.destroy();
  });

  test("an update that is skipped and comes again weighs once, before a save and after it", async () => {
    const run = async (skips: boolean, resume: boolean): Promise<Float32Array> => {
      let bench = await benchOf(tier, scheduleFreeAdamW());
      for (let update = 1; update <= 4; update++) {
        if (skips) bench.step({ w: gradientOf(99) }, { learningRate: 0.5, update, skip: true });
        if (resume && update === 3) {
          const [values, state] = [await bench.parameters.readValues(), await bench.optimizer.save()];
          bench.destroy();
          bench = await benchOf(tier, scheduleFreeAdamW());
          bench.restore(values);
          bench.optimizer.load(state);
        }
        bench.step({ w: gradientOf(update) }, { learningRate: 0.01 * update, update });
      }
      const { evaluated } = await bothOf(bench);
      bench.destroy();
      return evaluated;
    };
    const plain = await run(false, false);
    expect(await run(true, false)).toEqual(plain);
    expect(await run(true, true)).toEqual(plain);
  });

  test("ema copies the first update, then averages; training is that of the optimizer inside", async () => {
    const [bench, bare] = [await benchOf(tier, ema(sgd(), { decay: 0.75 })), await benchOf(tier, sgd())];
    let average = new Float64Array(SIZE);
    for (let update = 1; update <= 9; update++) {
      const skip = update === 4;
      for (const each of [bench, bare]) each.step({ w: gradientOf(update) }, { learningRate: 0.1, update, skip });
      const value = await bare.value("w");
      if (!skip) average = average.map((a, i) => (update === 1 ? value[i]! : 0.75 * a + 0.25 * value[i]!));
    }
    const { evaluated, trained } = await bothOf(bench);
    expect(trained).toEqual(await bare.value("w"));
    expectNear(evaluated, average, 1e-6, "the average");
    for (const each of [bench, bare]) each.destroy();
  });

  test("wrappers chain: lookahead around a clip of each group around sgd, by hand", async () => {
    const plugin = lookahead(clipGroups(sgd({ momentum: 0 }), { maxNorm: 1 }), { steps: 2, alpha: 0.5 });
    expect(plugin.name).toBe("lookahead(clip-groups(sgd))");
    const gpu = await gpuOf(tier);
    const bench = new OptimizerBench(gpu, plugin, [
      { name: "a", shape: [2], initial: Float32Array.of(0, 0) },
      { name: "b", shape: [1], initial: Float32Array.of(0) },
    ]);
    for (const update of [1, 2, 3]) {
      bench.step({ a: Float32Array.of(3, 4), b: Float32Array.of(0.5) }, { learningRate: 1, update });
    }
    // a is clipped to (0.6, 0.8), b is not. Two steps, half of the way back, one step.
    const [a, b] = [await bench.value("a"), await bench.value("b")];
    expect([...a].map((x) => Number(x.toFixed(6)))).toEqual([-1.2, -1.6]);
    expect(b[0]).toBeCloseTo(-1, 6);
    bench.destroy();
  });
});

/** Zhang et al. 2019: every few steps the parameters go back to a point between here and where they were then. */
const lookahead = defineOptimizerWrapper({
  name: "lookahead",
  options: defineOptions({
    steps: option("number.integer >= 1", { default: 5, help: "steps between two returns" }),
    alpha: option("0 < number <= 1", { default: 0.5, help: "share of the way that is kept" }),
  }),
  wrap({ steps, alpha }, inner, context) {
    const { gpu } = context;
    const { states, ...kept } = slabStates(context, "lookahead", ["slow"]);
    for (const { slab, tensors } of states) gpu.copy(slab.value, tensors.slow);
    const code = `@group(0) @binding(0) var<storage, read_write> value: array<f32>;
      @group(0) @binding(1) var<storage, read_write> slow: array<f32>;
      @compute @workgroup_size(256) fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
        let i = group_index(wg, count) * 256u + lane;
        if (i < params.size) { slow[i] += params.alpha * (value[i] - slow[i]); value[i] = slow[i]; }
      }`;
    return {
      ...kept,
      step(step) {
        inner.step(step);
        if (step.update % steps !== 0) return;
        const spec = { code, bindings: ["write", "write"], uniforms: { size: "u32", alpha: "f32" } } as const;
        for (const { slab, tensors } of states)
          gpu.dispatch(
            gpu.kernel("lookahead", () => spec),
            [slab.value, tensors.slow],
            { size: slab.size, alpha },
            [slab.size / 256, 1, 1],
          );
      },
    };
  },
});

/** Clips the gradient of each parameter by its own norm. */
const clipGroups = defineOptimizerWrapper({
  name: "clip-groups",
  options: defineOptions({ maxNorm: option("number > 0", { help: "of a parameter's gradient" }) }),
  wrap({ maxNorm }, inner, { gpu, parameters }): Optimizer {
    const code = `@group(0) @binding(0) var<storage, read_write> g: array<f32>;
      @compute @workgroup_size(1) fn main() {
        var sum = 0.0;
        for (var i = 0u; i < params.size; i++) { sum += g[i] * g[i]; }
        let factor = min(1.0, params.maxNorm / sqrt(sum));
        for (var i = 0u; i < params.size; i++) { g[i] *= factor; }
      }`;
    return {
      step(step) {
        const spec = { code, bindings: ["write"], uniforms: { size: "u32", maxNorm: "f32" } } as const;
        for (const { grad, size } of parameters.parameters)
          gpu.dispatch(
            gpu.kernel("clip-groups", () => spec),
            [grad],
            { size, maxNorm },
            [1, 1, 1],
          );
        inner.step(step);
      },
      save: async () => new Map(),
      load() {},
      destroy() {},
    };
  },
});

describe("a wrapped optimizer is a plugin like any other", () => {
  test("with the options of both, checked by both, and more laid over them", () => {
    const plugin = ema(adamW({ weightDecay: 0.5 }), { decay: 0.9 });
    expect(isPlugin(plugin, "optimizer")).toBe(true);
    expect(plugin.name).toBe("ema(adamw)");
    expect(plugin.options).toMatchObject({ weightDecay: 0.5, adamBeta1: 0.9, decay: 0.9 });
    expect(plugin.input).toEqual({ weightDecay: 0.5, decay: 0.9 });
    const again = plugin.factory.configure({ ...plugin.input, adamBeta1: 0.8 });
    expect(again.options).toMatchObject({ weightDecay: 0.5, adamBeta1: 0.8, decay: 0.9 });
    expect(() => plugin.factory.configure({ decay: 1, adamBeta1: 2 })).toThrow(/adamBeta1: got 2.*decay: got 1/s);
    expect(() => ema(adamW(), { decai: 0.9 } as never)).toThrow('did you mean "decay"');
  });

  test("two options of one name are refused", () => {
    expect(() => ema(ema(adamW()))).toThrow("ema(ema(adamw)): both have an option decay, expected one");
  });
});
