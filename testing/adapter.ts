import type { LinearSpec } from "../core/compute/linear.ts";
import type { ParameterSpec } from "../core/compute/parameters.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { elementCount } from "../core/device/tensor.ts";
import type { AdapterPlugin } from "../core/plugin/adapter.ts";
import { weightTensors } from "../kernels/nf4/index.ts";
import { adapterValues } from "../runtime/session/adapter-values.ts";
import { isFoundByItsConfig, refusesStrangeFiles, restoresExactly } from "./adapter-files.ts";
import { type AdapterContractOptions, checkOptions, show, Subject, trainedOf } from "./adapter-subject.ts";
import { type Check, expectFinite, expectNear, expectReached, expectSameBits, expectThat } from "./contract.ts";
import { freeMerged, mergedAdapter, mergeLinears } from "./merged.ts";
import { expectSameWhenCut } from "./micro-batches.ts";
import { expectGradientsOfLoss } from "./model-differences.ts";
import { bareAdapter } from "./no-adapter.ts";

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
  const { frozen = [] } = adapter;
  for (const { name } of [...parameters, ...frozen]) {
    expectThat(!names.has(name), `two parameters are named ${name}`);
    names.add(name);
  }
  for (const { name, shape, initial } of firstValues([...parameters, ...frozen])) {
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
  const drawn = async (): Promise<ParameterSpec[]> => {
    const { parameters, frozen = [] } = await subject.adapter();
    return [...parameters, ...frozen];
  };
  const want = firstValues(await drawn());
  const got = firstValues((await drawn()).toReversed()).toReversed();
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
    const { gpu, model, adapter, outline, parameters, frozen } = bench.session;
    const bytes = async (spec: LinearSpec): Promise<Uint8Array> => {
      const [values, scales] = weightTensors(model.weight(spec));
      return Buffer.concat([await gpu.readBytes(values), await gpu.readBytes(scales)]);
    };
    const before = await Promise.all(outline.linears.map(bytes));
    const read = await frozen.readValues();
    await bench.perturb();
    await bench.gradients(samples);
    for (const [name, value] of await frozen.readValues())
      expectSameBits(value, read.get(name)!, `the frozen tensor ${name} after a training pass`);
    for (const [i, spec] of outline.linears.entries()) {
      expectSameBits(await bytes(spec), before[i]!, `frozen weight of ${spec.name} after a training pass`);
      const { weight, spec: own } = adapter.adapt(spec, model.weight(spec), parameters, { gpu, frozen });
      expectThat(own.name === spec.name, `adapt gives ${own.name} for ${spec.name}`);
      const [first] = weightTensors(weight);
      expectThat(first === weightTensors(model.weight(spec))[0], `adapt replaces the frozen weight of ${spec.name}`);
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

async function mergesWhatItComputes(subject: Subject): Promise<void> {
  if ((await subject.adapter()).mergeWeight === undefined) return;
  const samples = await subject.samples();
  const [merged, values, want] = await subject.with(async (bench) => {
    await bench.perturb();
    const moved = await adapterValues(bench.session);
    return [await mergeLinears(bench.session, moved), moved, await bench.logits(samples)] as const;
  });
  try {
    const got = await subject.with(async (bench) => {
      bench.write(trainedOf(bench, values));
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
