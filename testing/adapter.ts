import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LinearSpec } from "../core/compute/linear.ts";
import type { ParameterSpec } from "../core/compute/parameters.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { elementCount } from "../core/device/tensor.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_METADATA,
  ADAPTER_WEIGHTS_FILE,
  readAdapterConfig,
} from "../core/formats/peft.ts";
import { defineRequest } from "../core/options/request.ts";
import type { Adapter, AdapterFactory, AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelSpec, ModelLoader } from "../core/plugin/model.ts";
import { openFolder, openSafetensors, writeFiles, writeSafetensors } from "../runtime/files/folder.ts";
import {
  type Check,
  expectFinite,
  expectModelError,
  expectNear,
  expectReached,
  expectSameBits,
  expectThat,
} from "./contract.ts";
import { freeMerged, mergedAdapter, mergeLinears } from "./merged.ts";
import { expectSameWhenCut } from "./micro-batches.ts";
import { ModelBench, type NamedValues, randomSamples } from "./model-bench.ts";
import { expectGradientsOfLoss } from "./model-differences.ts";
import { bareAdapter } from "./no-adapter.ts";
import { toyModel } from "./toy-model.ts";

/** What the adapter contract is held with. */
export interface AdapterContractOptions {
  /** Model to adapt. Default `toyModel()`, which has the linears of a Llama or Gemma-2. */
  readonly model?: ModelLoader;
  /** Elements that train on that model, the head not counted, where you know the number. */
  readonly trainable?: number;
  /** False for an adapter that changes the model's output before any training. Default true. */
  readonly identityAtStart?: boolean;
  /** False where the gradient leaves a term out on purpose, as DoRA's does of the norm. Default true. */
  readonly exactGradients?: boolean;
  /** Tokens of the samples. Default 5, 1, 17 and 3. */
  readonly lengths?: readonly number[];
  readonly seed?: number;
}

const checkOptions = defineRequest<AdapterContractOptions>("adapterContract", {
  model: "object?",
  trainable: "number?",
  identityAtStart: "boolean?",
  exactGradients: "boolean?",
  lengths: "number[]?",
  seed: "number?",
});

/** How far sums in another order may differ, relative, by operand type. */
const TOLERANCE = { f32: 1e-5, f16: 4e-3 } as const;
const CLASSES = 3;

const show = (shape: readonly number[]): string => `[${shape.join(",")}]`;

/** The adapter under test on its model. */
class Subject {
  readonly gpu: Gpu;
  readonly plugin: AdapterPlugin;
  readonly source: ModelLoader;
  readonly options: AdapterContractOptions;
  readonly seed: number;

  constructor(gpu: Gpu, plugin: AdapterPlugin, options: AdapterContractOptions) {
    this.gpu = gpu;
    this.plugin = plugin;
    this.options = options;
    this.source = options.model ?? toyModel();
    this.seed = options.seed ?? 1;
  }

  get tolerance(): number {
    return TOLERANCE[this.gpu.computeDtype];
  }

  outline(): Promise<ModelSpec> {
    return this.source.outline(CLASSES);
  }

  async adapter(seed = this.seed, plugin = this.plugin): Promise<Adapter> {
    const { linears, head } = await this.outline();
    return plugin.create({ linears, head, baseModel: this.source.checkpoint, seed });
  }

  async samples(): Promise<ReturnType<typeof randomSamples>> {
    const { vocabSize } = await this.outline();
    return randomSamples(this.options.lengths ?? [5, 1, 17, 3], vocabSize, { numLabels: CLASSES, seed: this.seed });
  }

  /** Runs `body` on a session of its own. */
  async with<T>(body: (bench: ModelBench) => Promise<T>, plugin = this.plugin, initAdapter?: string): Promise<T> {
    using bench = await ModelBench.open(this.gpu, this.source, plugin, {
      numLabels: CLASSES,
      seed: this.seed,
      initAdapter,
    });
    return await body(bench);
  }

  /** Runs `body` with a folder that holds the adapter with moved values. */
  async saved<T>(body: (directory: string, values: NamedValues, adapter: Adapter) => Promise<T>): Promise<T> {
    const directory = await mkdtemp(join(tmpdir(), "qlora-adapter-"));
    try {
      const [values, adapter] = await this.with(
        async (bench) => [await bench.perturb(), bench.session.adapter] as const,
      );
      await writeFiles(directory, await adapter.save(values));
      return await body(directory, values, adapter);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

function expectSameMaps(got: NamedValues, want: NamedValues, what: string): void {
  const [extra] = [...got.keys()].filter((name) => !want.has(name));
  expectThat(extra === undefined, `${what}: holds ${extra}, which is no parameter`);
  for (const [name, value] of want) {
    expectThat(got.has(name), `${what}: ${name} is missing`);
    expectSameBits(got.get(name)!, value, `${what}, ${name}`);
  }
}

async function changesNothing(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  const bare = await subject.with((bench) => bench.logits(samples), bareAdapter());
  const fresh = await subject.with((bench) => bench.logits(samples));
  expectFinite(fresh, "logits of a fresh adapter");
  expectNear(fresh, bare, subject.tolerance, "logits of a fresh adapter, against the bare model's");
}

async function declaresParameters(subject: Subject): Promise<void> {
  const [adapter, outline] = [await subject.adapter(), await subject.outline()];
  const { parameters } = adapter;
  expectThat(parameters.length > 0, "the adapter trains nothing on this model");
  const names = new Set(outline.head.map(({ name }) => name));
  for (const { name } of parameters) {
    expectThat(!names.has(name), `two parameters are named ${name}`);
    names.add(name);
  }
  for (const { name, shape, initial } of firstValues(parameters)) {
    expectThat(
      initial.length === elementCount(shape),
      `${name}: ${initial.length} first values, expected ${elementCount(shape)} for ${show(shape)}`,
    );
    expectFinite(initial, `first values of ${name}`);
  }
  const count = parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const { trainable = count } = subject.options;
  expectThat(count === trainable, `${count} elements train, expected ${trainable}`);
}

const firstValues = (parameters: readonly ParameterSpec[]) =>
  parameters.map((spec) => ({ name: spec.name, shape: spec.shape, initial: spec.initial() }));

async function repeatsFirstValues(subject: Subject): Promise<void> {
  const want = firstValues((await subject.adapter()).parameters);
  const got = firstValues((await subject.adapter()).parameters.toReversed()).toReversed();
  for (const [i, { name, initial }] of want.entries()) {
    expectThat(got[i]?.name === name, `parameter ${i} is ${got[i]?.name} the second time, ${name} the first`);
    expectSameBits(got[i].initial, initial, `first values of ${name} by the same seed, in another order`);
  }
}

async function reachesEveryParameter(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    await bench.perturb(); // where a factor is zero at the start, the other gets no gradient yet
    expectReached(await bench.gradients(samples));
  });
}

async function agreesWithDifferences(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    await bench.perturb();
    await expectGradientsOfLoss(bench, samples, { seed: subject.seed });
  });
}

async function leavesTheBaseAlone(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    const { gpu, model, adapter, outline, parameters } = bench.session;
    const bytes = async (spec: LinearSpec): Promise<Uint8Array> => {
      const { codes, absmax } = model.weight(spec);
      return Buffer.concat([await gpu.readBytes(codes), await gpu.readBytes(absmax)]);
    };
    const before = await Promise.all(outline.linears.map(bytes));
    await bench.perturb();
    await bench.gradients(samples);
    for (const [i, spec] of outline.linears.entries()) {
      expectSameBits(await bytes(spec), before[i]!, `frozen weight of ${spec.name} after a training pass`);
      const { weight, spec: own } = adapter.adapt(spec, model.weight(spec), parameters);
      expectThat(own.name === spec.name, `adapt gives ${own.name} for ${spec.name}`);
      expectThat(weight.codes === model.weight(spec).codes, `adapt replaces the frozen weight of ${spec.name}`);
    }
  });
}

async function packingDoesNotMatter(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    await bench.perturb();
    const together = await bench.logits(samples);
    const alone = await Promise.all(samples.map((sample) => bench.logits([sample])));
    expectNear(
      together,
      alone.flatMap((row) => [...row]),
      subject.tolerance,
      "logits of samples packed together, against each alone",
    );
    const note = " (dropout must draw by batch.rowKeys)";
    await expectSameWhenCut(bench, samples, { stepKey: 3, note });
  });
}

async function replaysExactly(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    await bench.perturb();
    const kept = await bench.gradients(samples);
    const replayed = await bench.gradients(samples, { checkpointing: "block" });
    for (const [name, gradient] of kept)
      expectSameBits(replayed.get(name)!, gradient, `the gradient of ${name} where blocks are run again in backward`);
  });
}

async function evaluatesWithoutDropout(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(async (bench) => {
    await bench.perturb();
    expectSameBits(await bench.logits(samples), await bench.logits(samples), "logits of the same samples again");
    const moved = samples.map((sample) => ({ ...sample, index: sample.index + 100 }));
    expectSameBits(
      await bench.logits(moved),
      await bench.logits(samples),
      "logits of the same samples elsewhere in the data set (no dropout in evaluation)",
    );
  });
}

async function restoresExactly(subject: Subject): Promise<void> {
  await subject.saved(async (directory, values, adapter) => {
    expectSameMaps(await adapter.load(openFolder(directory)), values, "loaded by the adapter that saved");
    const fresh = await subject.adapter(subject.seed + 1);
    expectSameMaps(await fresh.load(openFolder(directory)), values, "loaded by another adapter");
    await using file = await openSafetensors(join(directory, ADAPTER_WEIGHTS_FILE));
    expectThat(
      [...file.tensors.keys()].sort().join() === [...values.keys()].sort().join(),
      `${ADAPTER_WEIGHTS_FILE} holds ${[...file.tensors.keys()].join(", ")}, expected ${[...values.keys()].join(", ")}`,
    );
    const names = [ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE];
    const before = await Promise.all(names.map((name) => readFile(join(directory, name))));
    await writeFiles(directory, await fresh.save(values));
    for (const [i, name] of names.entries())
      expectSameBits(await readFile(join(directory, name)), before[i]!, `${name} saved again, bytes`);
  });
}

async function isFoundByItsConfig(subject: Subject): Promise<void> {
  await subject.saved(async (directory, values) => {
    const config = await readAdapterConfig(openFolder(directory));
    const factory = subject.plugin.factory as Partial<AdapterFactory>;
    expectThat(factory.reads?.(config) === true, `reads() does not know the ${ADAPTER_CONFIG_FILE} that save() wrote`);
    const plugin = factory.fromConfig!(config);
    const again = await subject.adapter(subject.seed, plugin);
    const want = (await subject.adapter()).parameters;
    expectThat(
      again.parameters.map(({ name, shape }) => name + show(shape)).join() ===
        want.map(({ name, shape }) => name + show(shape)).join(),
      `the adapter that ${ADAPTER_CONFIG_FILE} describes has other parameters: ${again.parameters.length}, expected ${want.length}`,
    );
    expectSameMaps(
      await again.load(openFolder(directory)),
      values,
      `loaded by the adapter that ${ADAPTER_CONFIG_FILE} describes`,
    );
    const samples = await subject.samples();
    const trained = await subject.with(async (bench) => {
      bench.write(values);
      return bench.logits(samples);
    });
    const restored = await subject.with((bench) => bench.logits(samples), plugin, directory);
    expectSameBits(restored, trained, "logits after save and load");
  });
}

async function refusesStrangeFiles(subject: Subject): Promise<void> {
  await subject.saved(async (directory, values, adapter) => {
    const { head } = await subject.outline();
    const shapes = [...adapter.parameters, ...head];
    const write = (tensors: readonly { name: string; shape: readonly number[] }[]): Promise<void> =>
      writeSafetensors(
        join(directory, ADAPTER_WEIGHTS_FILE),
        tensors.map(({ name, shape }) => {
          const data = values.get(name) ?? new Float32Array(1);
          const size = elementCount(shape);
          const fitting = Float32Array.from({ length: size }, (_, i) => data[i] ?? 0);
          return [name, { dtype: "F32", shape, data: fitting }] as const;
        }),
        ADAPTER_METADATA,
      );
    for (const victim of [shapes[0]!, shapes.at(-1)!]) {
      const { name, shape } = victim;
      const wrong = [shape[0]! + 1, ...shape.slice(1)];
      await write(shapes.map((each) => (each === victim ? { name, shape: wrong } : each)));
      await expectModelError(
        () => adapter.load(openFolder(directory)),
        [name, show(wrong), show(shape)],
        `load of a file whose ${name} is ${show(wrong)}, not ${show(shape)}`,
      );
      await write(shapes.filter((each) => each !== victim));
      await expectModelError(() => adapter.load(openFolder(directory)), [name], `load of a file without ${name}`);
    }
    await write([...shapes, { name: "nobody.weight", shape: [1] }]);
    await expectModelError(
      () => adapter.load(openFolder(directory)),
      ["nobody.weight"],
      "load of a file with the unknown tensor nobody.weight",
    );
  });
}

async function mergesWhatItComputes(subject: Subject): Promise<void> {
  if ((await subject.adapter()).mergeWeight === undefined) return;
  const samples = await subject.samples();
  const [merged, values, want] = await subject.with(async (bench) => {
    const moved = await bench.perturb();
    return [await mergeLinears(bench.session, moved), moved, await bench.logits(samples)] as const;
  });
  try {
    const got = await subject.with(async (bench) => {
      bench.write(new Map(bench.parameters.parameters.map(({ name }) => [name, values.get(name)!])));
      return bench.logits(samples);
    }, mergedAdapter(merged));
    expectNear(got, want, subject.tolerance, "logits of the merged linears, against those of the adapter");
  } finally {
    freeMerged(subject.gpu, merged);
  }
}

async function freesItsMemory(subject: Subject): Promise<void> {
  const used = (): number => subject.gpu.memory.report().used;
  const samples = await subject.samples();
  const before = used();
  await subject.with((bench) => bench.gradients(samples));
  expectThat(used() === before, `${used() - before} bytes of GPU memory are still held after the session`);
}

/**
 * What training, saving and evaluation rely on of every adapter, as named checks. They run on `toyModel()`: no checkpoint
 * is needed.
 * @param gpu a device, or the promise of one
 * @example for (const { name, run } of adapterContract(testGpu("f32"), lora({ rank: 4 }))) test(name, run);
 */
export function adapterContract(
  gpu: Gpu | Promise<Gpu>,
  plugin: AdapterPlugin,
  options: AdapterContractOptions = {},
): readonly Check[] {
  const { identityAtStart = true, exactGradients = true } = checkOptions(options);
  const check = (name: string, run: (subject: Subject) => Promise<void>): Check => ({
    name: `${plugin.name}: ${name}`,
    run: async () => run(new Subject(await gpu, plugin, options)),
  });
  return [
    ...(identityAtStart ? [check("a fresh adapter changes nothing", changesNothing)] : []),
    check("parameters have one name each and as many elements as declared", declaresParameters),
    check("the seed fixes the first values", repeatsFirstValues),
    check("a gradient reaches every parameter", reachesEveryParameter),
    ...(exactGradients ? [check("gradients agree with differences of the loss", agreesWithDifferences)] : []),
    check("the frozen base stays as it is", leavesTheBaseAlone),
    check("packing does not matter, to dropout neither", packingDoesNotMatter),
    check("checkpointing gives the same bits", replaysExactly),
    check("evaluation repeats, without dropout", evaluatesWithoutDropout),
    check("save and load give the same values and the same files", restoresExactly),
    check("its config file finds it again, with the same logits", isFoundByItsConfig),
    check("a file that does not fit is refused by name", refusesStrangeFiles),
    check("merged linears, where it merges, compute what it computes", mergesWhatItComputes),
    check("all memory comes back", freesItsMemory),
  ];
}
