/**
 * The account of memory: the model's own code loads and takes a step on a GPU that only counts, so the bytes are those that
 * the run allocates, pool and rounding included.
 */
import { cutMicroBatches, lengthSortedBatches, type PackLimits, type Sample } from "../data/pack.ts";
import { type Gpu, type PaperDevice, paperGpu } from "../device/index.ts";
import type { Engine } from "../engine.ts";
import { DeviceError } from "../errors.ts";
import type { MemoryReport } from "../memory.ts";
import type { AdapterPlugin, Checkpointing, ModelPlacement, ModelSource, Optimizer } from "../plugin.ts";
import { openSession, type Session } from "../session.ts";
import { accumulateGradients, readLogits } from "../step.ts";
import type { Tensor } from "../tensor.ts";

/** What runs: training, evaluation or both. */
export interface PlannedWork {
  readonly source: ModelSource;
  readonly adapter: AdapterPlugin;
  readonly numLabels: number;
  readonly training?: PlannedTraining | undefined;
  readonly evaluation?: PlannedEvaluation | undefined;
}

/** What is trained, and on how long samples. */
export interface PlannedTraining {
  readonly optimizer: (session: Session) => Optimizer;
  /** Optimizer steps to take, each as the token counts of its samples; the longest that may come. */
  readonly steps: readonly (readonly number[])[];
  /** Most samples of a micro-batch; undefined: all that the token budget has room for. */
  readonly maxSamples: number | undefined;
}

/** Batches of forward passes alone. */
export interface PlannedEvaluation {
  /** Most samples of a batch. */
  readonly maxSamples: number;
  /** Tokens of the longest sample that may come. */
  readonly longest: number;
}

/** What a plan settles. */
export interface MemorySettings extends ModelPlacement {
  readonly checkpointing: Checkpointing;
  /** Most tokens of a micro-batch; undefined: as many as its samples have. */
  readonly tokenBudget: number | undefined;
}

/** Bytes of GPU memory. */
export interface MemoryFigures {
  /** Held between steps: weights, adapter, gradients, optimizer. */
  readonly atRest: MemoryReport["byPurpose"];
  /** In use at the highest point. */
  readonly atPeak: MemoryReport["byPurpose"];
  /** Buffers in use and kept for reuse together, at the highest point. */
  readonly peak: number;
}

/** Figures, or why there are none: one buffer would be larger than the adapter allows. */
export type Measured = MemoryFigures | { readonly tooLarge: string };

/** A loaded model on paper, which every choice of checkpointing and token budget can use. */
interface PaperRun {
  readonly session: Session;
  /** Undefined where nothing is trained. */
  readonly update: { readonly optimizer: Optimizer; readonly control: Tensor } | undefined;
  /** Settings that steps were taken with. */
  readonly stepped: Set<string>;
}

/** What a model is loaded anew for. */
const placementKey = ({ embeddings, keepDequantised }: ModelPlacement): string => `${embeddings} ${keepDequantised}`;

/** What a loaded model takes a step with. */
const stepKey = ({ checkpointing, tokenBudget }: MemorySettings): string => `${checkpointing} ${tokenBudget}`;

/** Measures settings of one piece of work for one device. */
export class MemoryAccount {
  readonly work: PlannedWork;
  readonly #device: PaperDevice;
  readonly #engine: Engine;
  readonly #runs = new Map<string, PaperRun>();
  readonly #measured = new Map<string, Measured>();

  constructor(work: PlannedWork, device: PaperDevice, engine: Engine) {
    this.work = work;
    this.#device = device;
    this.#engine = engine;
  }

  /** Blocks of the model. */
  async blocks(): Promise<number> {
    const { linears } = await this.work.source.outline(this.work.numLabels);
    return linears.reduce((most, { layer }) => Math.max(most, layer + 1), 0);
  }

  /** Tokens of the largest micro-batch where only the number of its samples limits it; of a batch where nothing is trained. */
  get batchTokens(): number {
    const { training } = this.work;
    if (training === undefined) return this.evalTokens;
    const batches = training.steps.flatMap((step) => cut(step, training.maxSamples, undefined));
    return Math.max(...batches.map(({ tokens }) => tokens));
  }

  /** The same of a batch in evaluation; 0 where nothing is evaluated. */
  get evalTokens(): number {
    const { evaluation } = this.work;
    return evaluation === undefined ? 0 : evaluation.maxSamples * evaluation.longest;
  }

  /** Tokens of the longest sample. */
  get longest(): number {
    const { training, evaluation } = this.work;
    return Math.max(...(training?.steps.flat() ?? []), evaluation?.longest ?? 0);
  }

  /**
   * @param limit bytes at which the run gives up its pool
   * @throws QloraError of every kind that loading or a step would throw
   */
  async measure(settings: MemorySettings, limit = Infinity): Promise<Measured> {
    const key = [stepKey(settings), placementKey(settings), limit].join();
    const known = this.#measured.get(key) ?? (await this.#run(settings, limit));
    this.#measured.set(key, known);
    return known;
  }

  /** What the kernels of loading and of a step with these settings are made of. @throws as `measure` */
  async kernels(settings: MemorySettings): Promise<Gpu["kernelSpecs"]> {
    const measured = this.#runs.get(placementKey(settings));
    // A model that took steps with other settings has their kernels too.
    if (measured?.stepped.size === 1 && measured.stepped.has(stepKey(settings)))
      return measured.session.gpu.kernelSpecs;
    const run = await this.#open(settings);
    await this.#step(run, settings);
    return run.session.gpu.kernelSpecs;
  }

  async #run(settings: MemorySettings, limit: number): Promise<Measured> {
    const key = placementKey(settings);
    try {
      let run = this.#runs.get(key);
      if (run === undefined) this.#runs.set(key, (run = await this.#open(settings)));
      run.session.gpu.memory.limit = limit;
      return await this.#step(run, settings);
    } catch (error) {
      this.#runs.delete(key); // what the broken step held stays with it
      if (error instanceof DeviceError && /^(BINDING|BUFFER)_TOO_LARGE$/.test(error.code)) {
        return { tooLarge: error.message };
      }
      throw error;
    }
  }

  async #open(placement: ModelPlacement): Promise<PaperRun> {
    const { source, adapter, numLabels, training } = this.work;
    const gpu = paperGpu(this.#device);
    const session = await openSession({ source, adapter, device: {}, gpu, placement, numLabels, seed: 0 });
    const update = training && {
      control: gpu.alloc([4], "f32", "gradient control", "optimizer"),
      optimizer: training.optimizer(session),
    };
    return { session, update, stepped: new Set() };
  }

  async #step({ session, update, stepped }: PaperRun, settings: MemorySettings): Promise<MemoryFigures> {
    const { gpu, parameters } = session;
    const { checkpointing, tokenBudget } = settings;
    const { training, evaluation } = this.work;
    stepped.add(stepKey(settings));
    gpu.memory.trim();
    gpu.memory.resetPeak();
    const atRest = gpu.memory.report().byPurpose;
    for (const step of training?.steps ?? []) {
      parameters.zeroGrad();
      for (const { lengths } of distinct(cut(step, training?.maxSamples, tokenBudget))) {
        const options = { limits: { maxTokens: Infinity }, checkpointing, lossScale: 1, stepKey: 0 };
        gpu.free(await accumulateGradients(session, this.#engine, samplesOf(lengths), options));
      }
      const { control, optimizer } = update!;
      this.#engine.gradNorm(gpu, parameters.slabs, control, { lossScale: 1, maxNorm: 1 });
      optimizer.step({ learningRate: 0, update: 1, control });
    }
    if (evaluation !== undefined) {
      const { maxSamples, longest } = evaluation;
      const rows = new Array<number>(maxSamples).fill(longest);
      const [batch] = lengthSortedBatches(rows, { maxTokens: tokenBudget ?? Infinity, maxSamples });
      await readLogits(session, this.#engine, samplesOf(batch!.map((i) => rows[i]!)));
    }
    gpu.submit();
    const { byPurposeAtPeak: atPeak, peak } = gpu.memory.report();
    return { atRest, atPeak, peak };
  }
}

interface MicroBatch {
  readonly lengths: readonly number[];
  readonly tokens: number;
}

function cut(
  lengths: readonly number[],
  maxSamples: number | undefined,
  tokenBudget: number | undefined,
): MicroBatch[] {
  const limits: PackLimits = { maxTokens: tokenBudget ?? Infinity, maxSamples };
  return cutMicroBatches(lengths, limits).map((members) => {
    const own = members.map((i) => lengths[i]!);
    return { lengths: own, tokens: own.reduce((sum, length) => sum + length, 0) };
  });
}

/** Each micro-batch twice at most: a third of the same sizes meets the same buffers again. */
function distinct(batches: readonly MicroBatch[]): MicroBatch[] {
  const seen = new Map<string, number>();
  return batches.filter(({ lengths }) => {
    const key = lengths.join();
    const count = (seen.get(key) ?? 0) + 1;
    seen.set(key, count);
    return count <= 2;
  });
}

function samplesOf(lengths: readonly number[]): Sample[] {
  return lengths.map((length, index) => ({ index, inputIds: new Uint32Array(length), label: 0 }));
}
