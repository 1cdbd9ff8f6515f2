import type { LinearSpec } from "../core/compute/linear.ts";
import type { ParameterSpec } from "../core/compute/parameters.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { elementCount } from "../core/device/tensor.ts";
import { defineRequest } from "../core/options/request.ts";
import type { AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelSpec, ModelPlugin, ModelLoader } from "../core/plugin/model.ts";
import { normalValues } from "../core/util/random.ts";
import { fileHost } from "../runtime/files/folder.ts";
import {
  type Check,
  expectFinite,
  expectModelError,
  expectNear,
  expectReached,
  expectSameBits,
  expectThat,
} from "./contract.ts";
import { expectSameWhenCut } from "./micro-batches.ts";
import { ModelBench, randomSamples } from "./model-bench.ts";
import { expectGradientsOfLoss } from "./model-differences.ts";
import { bareAdapter, wrappingAdapter } from "./no-adapter.ts";

/** What the model contract is held with. */
export interface ModelContractOptions {
  /** Tokens of the samples; choose some beyond a sliding window. Default 5, 1, 17 and 3. */
  readonly lengths?: readonly number[];
  /** Numbers of classes to try. Default 2, 3 and 5. */
  readonly numLabels?: readonly number[];
  readonly seed?: number;
}

const checkOptions = defineRequest<ModelContractOptions>("modelContract", {
  lengths: "number[]?",
  numLabels: "number[]?",
  seed: "number?",
});

/** How far sums in another order may differ, relative, by operand type. */
const TOLERANCE = { f32: 1e-5, f16: 6e-3 } as const;
const RANK = 2;

const show = (shape: readonly number[]): string => `[${shape.join(",")}]`;
const keyOf = (linear: LinearSpec, part: "A" | "B"): string => `test.${linear.name}.${part}`;

/** Low-rank branches on every linear, none of them zero. */
function branches(seed: number): AdapterPlugin {
  const make = (name: string, shape: readonly number[]): ParameterSpec => ({
    name,
    shape,
    initial: () => normalValues(elementCount(shape), 0.2, seed, name),
  });
  return wrappingAdapter(
    (spec, weight, set) => {
      const [a, b] = [set.get(keyOf(spec, "A")), set.get(keyOf(spec, "B"))];
      return { spec, weight, branch: { a, b, scale: 0.1, dropout: 0, site: spec.layer } };
    },
    ({ linears }) =>
      linears.flatMap((spec) => [
        make(keyOf(spec, "A"), [RANK, spec.inFeatures]),
        make(keyOf(spec, "B"), [spec.outFeatures, RANK]),
      ]),
  );
}

/** The model under test. */
class Subject {
  readonly gpu: Gpu;
  readonly source: ModelLoader;
  readonly options: ModelContractOptions;
  readonly seed: number;

  constructor(gpu: Gpu, plugin: ModelPlugin, options: ModelContractOptions) {
    this.gpu = gpu;
    this.source = plugin.create(fileHost);
    this.options = options;
    this.seed = options.seed ?? 1;
  }

  get tolerance(): number {
    return TOLERANCE[this.gpu.computeDtype];
  }

  get sizes(): readonly number[] {
    return this.options.numLabels ?? [2, 3, 5];
  }

  get classes(): number {
    return this.sizes[0]!;
  }

  async samples(numLabels = this.classes): Promise<ReturnType<typeof randomSamples>> {
    const { vocabSize } = await this.source.outline(numLabels);
    return randomSamples(this.options.lengths ?? [5, 1, 17, 3], vocabSize, { numLabels, seed: this.seed });
  }

  /** Runs `body` on a session of its own. */
  async with<T>(adapter: AdapterPlugin, body: (bench: ModelBench) => Promise<T>, numLabels = this.classes): Promise<T> {
    using bench = await ModelBench.open(this.gpu, this.source, adapter, { numLabels, seed: this.seed });
    return await body(bench);
  }
}

function expectUnique(names: readonly string[], what: string): void {
  const [twice] = names.filter((name, i) => names.indexOf(name) !== i);
  expectThat(twice === undefined, `${what}: two are named ${twice}`);
}

async function outlinesItself(subject: Subject): Promise<void> {
  const outline = await subject.source.outline(subject.classes);
  const { linears, head, baseParameters, vocabSize } = outline;
  expectThat(linears.length > 0, "the outline lists no linear that an adapter could wrap");
  expectThat(Number.isInteger(vocabSize) && vocabSize > 0, `vocabSize is ${vocabSize}, expected a positive integer`);
  expectUnique(
    linears.map(({ name }) => name),
    "linears of the outline",
  );
  expectUnique(
    [...head, ...baseParameters].map(({ name }) => name),
    "head and base parameters of the outline",
  );
  const rows = new Map(baseParameters.map(({ name, shape }) => [name, shape]));
  for (const { name, inFeatures, outFeatures } of linears) {
    const shape = rows.get(`${name}.weight`);
    expectThat(shape !== undefined, `baseParameters of the outline: no row ${name}.weight for the linear ${name}`);
    const want = show([outFeatures, inFeatures]);
    expectThat(
      show(shape) === want,
      `baseParameters of the outline: ${name}.weight is ${show(shape)}, its linear ${want}`,
    );
  }
}

async function keepsItsOutline(subject: Subject): Promise<void> {
  await subject.with(bareAdapter(), async ({ session: { model, outline } }) => {
    const described = (head: ModelSpec["head"]): string =>
      head.map(({ name, shape }) => `${name} ${show(shape)}`).join(", ");
    expectThat(
      described(model.head) === described(outline.head),
      `the head is ${described(model.head)}, the outline says ${described(outline.head)}`,
    );
    for (const spec of outline.linears) {
      const { outFeatures, inFeatures } = model.weight(spec);
      const [got, want] = [show([outFeatures, inFeatures]), show([spec.outFeatures, spec.inFeatures])];
      expectThat(got === want, `weight(${spec.name}) is ${got}, the outline says ${want}`);
    }
    const stranger = { ...outline.linears[0]!, name: "nobody.proj" };
    await expectModelError(() => model.weight(stranger), ["nobody.proj"], "weight() of the unknown linear nobody.proj");
  });
}

async function givesLogits(subject: Subject): Promise<void> {
  for (const numLabels of subject.sizes) {
    const samples = await subject.samples(numLabels);
    await subject.with(
      bareAdapter(),
      async (bench) => {
        const logits = await bench.logits(samples);
        const want = samples.length * numLabels;
        expectThat(
          logits.length === want,
          `${logits.length} logits for ${samples.length} samples of ${numLabels} classes, expected ${want}`,
        );
        expectFinite(logits, `logits of ${numLabels} classes`);
        expectThat(new Set(logits).size > 1, "all logits are the same");
        expectSameBits(await bench.logits(samples), logits, "logits of the same samples again");
      },
      numLabels,
    );
  }
}

/**
 * A sample's error is held against the size of all logits. A logit is h · w over C channels, and h leaves the model
 * normalized, as long for one sample as for another: its rounding, relative to h and in any direction, moves a logit by
 * that share of |h| |w| / sqrt(C), which is also the size of a logit between vectors that know nothing of each other.
 * One sample's few logits may come out far smaller, their terms cancel; what is rounded in them does not.
 */
async function packingDoesNotMatter(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(branches(subject.seed), async (bench) => {
    const together = await bench.logits(samples);
    const row = (i: number): Float32Array => together.subarray(i * subject.classes, (i + 1) * subject.classes);
    for (const [i, sample] of samples.entries()) {
      const what = `logits of sample ${i} (${sample.inputIds.length} tokens) alone, against packed with others`;
      expectNear(await bench.logits([sample]), row(i), subject.tolerance, what, together);
    }
    const turned = await bench.logits(samples.toReversed());
    const want = samples.flatMap((_, i) => [...row(samples.length - 1 - i)]);
    expectNear(turned, want, subject.tolerance, "logits of the samples in another order");
  });
}

async function cutsDoNotMatter(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(branches(subject.seed), (bench) => expectSameWhenCut(bench, samples));
}

async function replaysExactly(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(branches(subject.seed), async (bench) => {
    const kept = await bench.gradients(samples);
    for (const checkpointing of ["block", 1] as const) {
      const replayed = await bench.gradients(samples, { checkpointing });
      for (const [name, gradient] of kept)
        expectSameBits(
          replayed.get(name)!,
          gradient,
          `the gradient of ${name} with checkpointing ${checkpointing}, against none`,
        );
    }
  });
}

async function reachesEveryLinear(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(branches(subject.seed), async (bench) => {
    expectReached(await bench.gradients(samples));
  });
}

async function agreesWithDifferences(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  await subject.with(branches(subject.seed), (bench) => expectGradientsOfLoss(bench, samples, { seed: subject.seed }));
}

async function callsForwards(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  const tokens = samples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  const calls: string[] = [];
  const probe = wrappingAdapter((spec, weight) => ({
    spec,
    weight,
    forward(tape, x, base) {
      const y = base(x);
      calls.push(spec.name);
      const got = `${show(x.shape)} -> ${show(y.shape)} ${y.dtype}`;
      // A last block may run for the last tokens alone.
      const wants = [tokens, samples.length].map(
        (rows) => `${show([rows, spec.inFeatures])} -> ${show([rows, spec.outFeatures])} ${tape.gpu.computeDtype}`,
      );
      expectThat(
        wants.includes(got),
        `the adapter's forward of ${spec.name} is called with ${got}, expected ${wants[0]}`,
      );
      return y;
    },
  }));
  const bare = await subject.with(bareAdapter(), (bench) => bench.logits(samples));
  const probed = await subject.with(probe, (bench) => bench.logits(samples));
  const { linears } = await subject.source.outline(subject.classes);
  for (const { name } of linears) {
    const times = calls.filter((called) => called === name).length;
    expectThat(times === 1, `the adapter's forward of ${name} is called ${times} times in one pass, expected once`);
  }
  expectNear(probed, bare, subject.tolerance, "logits with adapters that only run the base linear");
}

async function showsHiddenStates(subject: Subject): Promise<void> {
  const samples = await subject.samples();
  const tokens = samples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  await subject.with(bareAdapter(), async (bench) => {
    const shapes: string[] = [];
    await bench.logits(samples, (hidden) => shapes.push(`${show(hidden.shape)} ${hidden.dtype}`));
    const blocks = new Set(bench.session.outline.linears.map(({ layer }) => layer)).size;
    expectThat(
      shapes.length === blocks + 1,
      `onHidden is called ${shapes.length} times, expected ${blocks + 1}: the embedding's output and each of ${blocks} blocks'`,
    );
    for (const shape of shapes)
      expectThat(
        shape === shapes[0] && shape.startsWith(`[${tokens},`) && shape.endsWith("] f32"),
        `onHidden gets ${shape}, expected [${tokens},C] f32`,
      );
  });
}

async function freesItsMemory(subject: Subject): Promise<void> {
  const used = (): number => subject.gpu.memory.report().used;
  const samples = await subject.samples();
  const before = used();
  await subject.with(branches(subject.seed), (bench) => bench.gradients(samples, { checkpointing: "block" }));
  expectThat(used() === before, `${used() - before} bytes of GPU memory are still held after destroy()`);
}

/**
 * What adapters and the trainer rely on of every model, as named checks.
 * @param gpu a device, or the promise of one
 * @example for (const { name, run } of modelContract(testGpu("f32"), gemma2({ checkpoint }))) test(name, run);
 */
export function modelContract(
  gpu: Gpu | Promise<Gpu>,
  plugin: ModelPlugin,
  options: ModelContractOptions = {},
): readonly Check[] {
  checkOptions(options);
  const check = (name: string, run: (subject: Subject) => Promise<void>): Check => ({
    name: `${plugin.name}: ${name}`,
    run: async () => run(new Subject(await gpu, plugin, options)),
  });
  return [
    check("the outline names every linear and parameter once", outlinesItself),
    check("head and weights are as the outline says", keepsItsOutline),
    check("gives a finite logit for each class, the same each time", givesLogits),
    check("packing and order do not matter to logits", packingDoesNotMatter),
    check("cutting into batches does not matter to gradients", cutsDoNotMatter),
    check("checkpointing gives the same bits", replaysExactly),
    check("a gradient reaches an adapter on every linear, and the head", reachesEveryLinear),
    check("gradients agree with differences of the loss", agreesWithDifferences),
    check("an adapter's own forward replaces each linear once", callsForwards),
    check("onHidden sees the embedding and every block", showsHiddenStates),
    check("all memory comes back", freesItsMemory),
  ];
}
