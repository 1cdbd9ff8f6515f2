import type { SavedTensor } from "../core/compute/saved-state.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { elementCount } from "../core/device/tensor.ts";
import { QloraError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import type { OptimizerPlugin } from "../core/plugin/optimizer.ts";
import { normalValues } from "../core/util/random.ts";
import {
  type Check,
  ContractError,
  errorOf,
  expectFinite,
  expectNear,
  expectSameBits,
  expectThat,
} from "./contract.ts";
import { OptimizerBench } from "./optimizer-bench.ts";

/** What the optimizer contract is held with. */
export interface OptimizerContractOptions {
  /** One that lowers the quadratic in `steps` updates. Default 0.01. */
  readonly learningRate?: number;
  /** Updates on the quadratic. Default 60. */
  readonly steps?: number;
  /** The quadratic must fall below this share of its first value. Default 0.8. */
  readonly reduction?: number;
  /** Shapes of the parameters. Default: small and large matrices, a long and a short vector. */
  readonly shapes?: readonly (readonly number[])[];
  readonly seed?: number;
}

const checkOptions = defineRequest<OptimizerContractOptions>("optimizerContract", {
  learningRate: "number > 0?",
  steps: "number.integer >= 1?",
  reduction: "number > 0?",
  shapes: "number[][]?",
  seed: "number?",
});

type Values = Map<string, Float32Array<ArrayBuffer>>;
type State = Map<string, SavedTensor>;

const SHAPES = [[3, 5], [300], [17, 301], [1], [64, 80]];

/** The benches of one contract: parameters and gradients that depend on the seed alone. */
class Subject {
  readonly learningRate: number;
  readonly shapes: readonly (readonly number[])[];
  readonly #gpu: Gpu;
  readonly #plugin: OptimizerPlugin;
  readonly #seed: number;

  constructor(
    gpu: Gpu,
    plugin: OptimizerPlugin,
    { learningRate = 0.01, shapes = SHAPES, seed = 1 }: OptimizerContractOptions,
  ) {
    this.#gpu = gpu;
    this.#plugin = plugin;
    this.#seed = seed;
    this.learningRate = learningRate;
    this.shapes = shapes;
  }

  get names(): string[] {
    return this.shapes.map((shape, i) => `p${i}.${shape.join("x")}`);
  }

  values(what: string, deviation = 1): Record<string, Float32Array<ArrayBuffer>> {
    return Object.fromEntries(
      this.names.map((name, i) => [
        name,
        normalValues(elementCount(this.shapes[i]!), deviation, this.#seed, `${what} ${name}`),
      ]),
    );
  }

  /** Runs `body` on a fresh optimizer that has done `updates` updates, over parameters in two slabs unless it says otherwise. */
  async with<T>(
    updates: number,
    body: (bench: OptimizerBench) => Promise<T>,
    { slabs = 2, first = new Map(Object.entries(this.values("value"))) }: { slabs?: number; first?: Values } = {},
  ): Promise<T> {
    const parameters = this.names.map((name, i) => ({ name, shape: this.shapes[i]!, initial: first.get(name)! }));
    const bench = new OptimizerBench(this.#gpu, this.#plugin, parameters, slabs);
    try {
      this.train(bench, 1, updates);
      return await body(bench);
    } finally {
      bench.destroy();
    }
  }

  /** Updates `first` to `last`. */
  train(bench: OptimizerBench, first: number, last: number): void {
    for (let update = first; update <= last; update++) {
      bench.step(this.values(`gradient ${update}`, 0.1), { learningRate: this.learningRate, update });
    }
  }

  /** All values and the saved state. */
  async snapshot(bench: OptimizerBench): Promise<[Values, State]> {
    return [await bench.parameters.readValues(), await bench.optimizer.save()];
  }
}

function expectSameValues(got: Values, want: Values, what: string, cause?: string): void {
  for (const [name, value] of want) expectSameBits(got.get(name) ?? [], value, `${what}, ${name}`, cause);
}

function expectSameState(got: State, want: State, what: string): void {
  expectThat(
    [...got.keys()].sort().join() === [...want.keys()].sort().join(),
    `${what}: state holds ${[...got.keys()].join(", ")}, expected ${[...want.keys()].join(", ")}`,
  );
  for (const [name, { dtype, shape, data }] of want) {
    const other = got.get(name)!;
    expectThat(
      other.dtype === dtype && other.shape.join() === shape.join(),
      `${what}: ${name} is ${other.dtype} [${other.shape.join(",")}], expected ${dtype} [${shape.join(",")}]`,
    );
    expectSameBits(other.data, data, `${what}, bytes of ${name}`);
  }
}

async function refusesStrangeState(subject: Subject): Promise<void> {
  await subject.with(2, async (bench) => {
    const [values, state] = await subject.snapshot(bench);
    const refused = (broken: State, name: string, what: string): void => {
      const error = errorOf(() => bench.optimizer.load(broken), `load of a state ${what} ${name}`);
      if (!(error instanceof QloraError))
        throw new ContractError(`load of a state ${what} ${name} threw ${String(error)}, expected a ModelError`);
      expectThat(
        error.message.includes(name),
        `the error for a state ${what} ${name} does not name it: ${error.message}`,
      );
    };
    for (const [name, tensor] of state) {
      refused(new Map([...state].filter(([other]) => other !== name)), name, "without");
      refused(new Map(state).set(name, { ...tensor, shape: [...tensor.shape, 2] }), name, "with another shape of");
    }
    const stray: SavedTensor = { dtype: "f32", shape: [1], data: new Uint8Array(4) };
    refused(new Map(state).set("nobody/state", stray), "nobody/state", "with the unknown tensor");
    const [after, stateAfter] = await subject.snapshot(bench);
    expectSameValues(after, values, "after refused states");
    expectSameState(stateAfter, state, "after refused states");
  });
}

/** As a resumed run does it: the optimizer is made over the values of the checkpoint, then loads its state. */
async function restoresExactly(subject: Subject): Promise<void> {
  await subject.with(3, async (first) => {
    const [values, state] = await subject.snapshot(first);
    await subject.with(
      0,
      async (second) => {
        second.optimizer.load(state);
        expectSameState(await second.optimizer.save(), state, "saved again after load");
        for (const bench of [first, second]) subject.train(bench, 4, 6);
        const [want, wantState] = await subject.snapshot(first);
        const [got, gotState] = await subject.snapshot(second);
        const cause =
          "state that create() makes, of the first values or of zeros, is neither in save() nor put back by load()";
        expectSameValues(got, want, "three updates after load", cause);
        expectSameState(gotState, wantState, "three updates after load");
      },
      { first: values },
    );
  });
}

async function movesEverySlab(subject: Subject): Promise<void> {
  await subject.with(
    0,
    async (bench) => {
      const before = await bench.parameters.readValues();
      subject.train(bench, 1, 1);
      for (const [name, value] of await bench.parameters.readValues()) {
        const index = bench.parameters.slabs.findIndex(({ parameters }) => parameters.some((p) => p.name === name));
        expectThat(
          value.some((x, i) => x !== before.get(name)![i]),
          `${name} stays as it was after an update: step() leaves out slab ${index} of ${bench.parameters.slabs.length} (go through parameters.slabs)`,
        );
      }
    },
    { slabs: subject.names.length },
  );
}

async function slabsDoNotMatter(subject: Subject): Promise<void> {
  const trained = (slabs: number): Promise<Values> =>
    subject.with(4, (bench) => bench.parameters.readValues(), { slabs });
  const whole = await trained(1);
  for (const [name, value] of await trained(subject.names.length)) {
    const what = `${name} after four updates, its slab one of several, against all in one`;
    expectNear(value, whole.get(name)!, 1e-4, what, undefined, "slabs share state, or a kernel writes beyond its slab");
  }
}

async function evaluatesAside(subject: Subject): Promise<void> {
  await subject.with(3, async (bench) => {
    const { optimizer } = bench;
    if (optimizer.evaluating === undefined) return;
    const [values, state] = await subject.snapshot(bench);
    optimizer.evaluating(true);
    for (const [name, value] of await bench.parameters.readValues()) expectFinite(value, `${name} for evaluation`);
    optimizer.evaluating(false);
    const [after, stateAfter] = await subject.snapshot(bench);
    const cause = "swap the two with swapTensors: what is computed back is rounded";
    expectSameValues(after, values, "after evaluating(true) and evaluating(false)", cause);
    expectSameState(stateAfter, state, "after evaluating(true) and evaluating(false)");
  });
}

/** Gradients of which some are infinite or NaN. */
function broken(subject: Subject): Record<string, Float32Array<ArrayBuffer>> {
  const gradients = subject.values("broken", 0.1);
  for (const gradient of Object.values(gradients)) {
    for (const [i, x] of [Number.NaN, Infinity, -Infinity].entries()) if (i < gradient.length) gradient[i] = x;
  }
  return gradients;
}

async function skipsMarkedSteps(subject: Subject): Promise<void> {
  const { learningRate } = subject;
  await subject.with(2, async (bench) => {
    const [values, state] = await subject.snapshot(bench);
    bench.step(broken(subject), { learningRate, update: 3, skip: true, factor: 0 });
    const [after, stateAfter] = await subject.snapshot(bench);
    expectSameValues(after, values, "after a step marked to be skipped");
    expectSameState(stateAfter, state, "after a step marked to be skipped");
  });
}

async function containsBrokenGradients(subject: Subject): Promise<void> {
  const { learningRate } = subject;
  await subject.with(1, async (bench) => {
    bench.step(broken(subject), { learningRate, update: 2 });
    subject.train(bench, 3, 4);
    for (const [name, value] of await bench.parameters.readValues()) {
      expectFinite(value, `${name} after a gradient that was not finite, unmarked`);
    }
  });
}

async function survivesZeroGradients(subject: Subject): Promise<void> {
  const { learningRate } = subject;
  await subject.with(0, async (bench) => {
    for (let update = 1; update <= 3; update++) bench.step({}, { learningRate, update });
    subject.train(bench, 4, 5);
    for (const [name, value] of await bench.parameters.readValues())
      expectFinite(value, `${name} after zero gradients`);
  });
}

async function standsStillAtZeroRate(subject: Subject): Promise<void> {
  await subject.with(0, async (bench) => {
    const before = await bench.parameters.readValues();
    bench.step(subject.values("gradient 1", 0.1), { learningRate: 0, update: 1 });
    expectSameValues(
      await bench.parameters.readValues(),
      before,
      "after an update at learning rate 0 (warm-up's first)",
    );
  });
}

async function appliesTheFactor(subject: Subject): Promise<void> {
  const { learningRate } = subject;
  const plain = subject.values("gradient 1", 0.1);
  const scaled = Object.fromEntries(Object.entries(plain).map(([name, g]) => [name, g.map((x) => x * 1024)]));
  await subject.with(0, (first) =>
    subject.with(0, async (second) => {
      first.step(plain, { learningRate, update: 1 });
      second.step(scaled, { learningRate, update: 1, factor: 1 / 1024 });
      const want = await first.parameters.readValues();
      expectSameValues(await second.parameters.readValues(), want, "gradients times 1024 under a factor of 1/1024");
    }),
  );
}

async function repeats(subject: Subject): Promise<void> {
  const [want, wantState] = await subject.with(3, (bench) => subject.snapshot(bench));
  const [got, gotState] = await subject.with(3, (bench) => subject.snapshot(bench));
  expectSameValues(got, want, "the same three updates again");
  expectSameState(gotState, wantState, "the same three updates again");
}

async function leavesPadding(gpu: Gpu, subject: Subject): Promise<void> {
  await subject.with(3, async (bench) => {
    for (const slab of bench.parameters.slabs) {
      const all = await gpu.readFloats(slab.value);
      for (const [i, p] of slab.parameters.entries()) {
        const end = slab.parameters[i + 1]?.start ?? slab.size;
        const stray = all.subarray(p.start + p.size, end).find((x) => x !== 0);
        expectThat(stray === undefined, `what lies between parameters became ${stray} after ${p.name}, expected 0`);
      }
    }
  });
}

async function lowersAQuadratic(subject: Subject, steps: number, reduction: number): Promise<void> {
  const { learningRate } = subject;
  const target = subject.values("target");
  await subject.with(0, async (bench) => {
    const distance = async (): Promise<[number, Record<string, Float32Array<ArrayBuffer>>]> => {
      const values = await bench.parameters.readValues();
      const gradients = Object.fromEntries(
        [...values].map(([name, v]) => [name, v.map((x, i) => x - target[name]![i]!)]),
      );
      const loss = Object.values(gradients).reduce((sum, g) => sum + g.reduce((part, x) => part + x * x, 0), 0) / 2;
      return [loss, gradients];
    };
    const [first] = await distance();
    for (let update = 1; update <= steps; update++) bench.step((await distance())[1], { learningRate, update });
    const [last] = await distance();
    expectThat(
      last <= reduction * first,
      `a quadratic went from ${first.toFixed(2)} to ${last.toFixed(2)} in ${steps} updates at learning rate ${learningRate}, expected at most ${(reduction * first).toFixed(2)}`,
    );
  });
}

async function freesItsMemory(gpu: Gpu, subject: Subject): Promise<void> {
  const before = gpu.memory.report().used;
  await subject.with(1, async (bench) => void (await bench.optimizer.save()));
  const after = gpu.memory.report().used;
  expectThat(after === before, `${after - before} bytes of GPU memory are still held after destroy()`);
}

/**
 * What the trainer relies on of every optimizer, as named checks.
 * @param gpu a device, or the promise of one
 * @example for (const { name, run } of optimizerContract(gpu, lion8bit())) test(name, run);
 */
export function optimizerContract(
  gpu: Gpu | Promise<Gpu>,
  plugin: OptimizerPlugin,
  options: OptimizerContractOptions = {},
): readonly Check[] {
  const { steps = 60, reduction = 0.8 } = checkOptions(options);
  const check = (name: string, run: (subject: Subject, gpu: Gpu) => Promise<void>): Check => ({
    name: `${plugin.name}: ${name}`,
    run: async () => {
      const device = await gpu;
      await run(new Subject(device, plugin, options), device);
    },
  });
  return [
    check("lowers a quadratic", (subject) => lowersAQuadratic(subject, steps, reduction)),
    check("every slab is updated", movesEverySlab),
    check("it does not matter how parameters lie in slabs", slabsDoNotMatter),
    check("the same updates give the same bits", repeats),
    check("saved state goes on bit for bit", restoresExactly),
    check("values for evaluation come and go without a trace", evaluatesAside),
    check("a state that does not fit is refused by name and changes nothing", refusesStrangeState),
    check("a step marked to be skipped changes nothing", skipsMarkedSteps),
    check("a gradient that is not finite never reaches a parameter", containsBrokenGradients),
    check("zero gradients leave parameters finite", survivesZeroGradients),
    check("learning rate 0 leaves parameters alone", standsStillAtZeroRate),
    check("the gradState's factor multiplies gradients", appliesTheFactor),
    check("what lies between parameters stays zero", (subject, device) => leavesPadding(device, subject)),
    check("destroy gives all memory back", (subject, device) => freesItsMemory(device, subject)),
  ];
}
