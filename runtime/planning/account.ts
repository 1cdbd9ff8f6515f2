import type { MetaDevice } from "../../core/device/meta.ts";
import { DeviceError } from "../../core/errors.ts";
import type { ModelPlacement } from "../../core/plugin/model.ts";
import { splitMicroBatches, lengthSortedBatches, type PackLimits } from "../data/pack.ts";
import type { StepLoss } from "../training/step.ts";
import { KernelForecast } from "./forecast.ts";
import { MetaRun } from "./meta-run.ts";
import type { Workload, EvaluationLoad, MemorySettings, MemoryFigures, Measured } from "./settings.ts";

/** What a model is reloaded for. */
const placementKey = ({ embeddings, keepDequantized }: ModelPlacement): string => `${embeddings} ${keepDequantized}`;

/** Measures settings of one piece of work for one device. */
export class MemoryAccount {
  readonly work: Workload;
  readonly #device: MetaDevice;
  readonly #runs = new Map<string, MetaRun>();
  readonly #measured = new Map<string, Measured>();

  constructor(work: Workload, device: MetaDevice) {
    this.work = work;
    this.#device = device;
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
    const { checkpointing, tokenBudget } = settings;
    const key = [checkpointing, tokenBudget, placementKey(settings), limit].join();
    const known = this.#measured.get(key) ?? (await this.#run(settings, limit));
    this.#measured.set(key, known);
    return known;
  }

  /**
   * Which kernels the work dispatches with these settings.
   * @param loss of the steps; default: cross entropy with the samples' labels
   * @throws as `measure`
   */
  async forecast(settings: MemorySettings, loss?: StepLoss): Promise<KernelForecast> {
    const { checkpointing, tokenBudget } = settings;
    const run = this.#runs.get(placementKey(settings)) ?? (await this.#open(settings));
    const { training, evaluation } = this.work;
    const largest =
      training === undefined
        ? { training: false, lengths: evaluationBatch(evaluation!, tokenBudget) }
        : { training: true, lengths: cut(training.steps[0]!, training.maxSamples, tokenBudget)[0]!.lengths };
    return new KernelForecast(run, { checkpointing, loss, largest });
  }

  async #run(settings: MemorySettings, limit: number): Promise<Measured> {
    const key = placementKey(settings);
    try {
      let run = this.#runs.get(key);
      if (run === undefined) this.#runs.set(key, (run = await this.#open(settings)));
      run.gpu.memory.limit = limit;
      return await this.#step(run, settings);
    } catch (error) {
      this.#runs.delete(key); // what the broken step held stays with it
      if (error instanceof DeviceError && /^(BINDING|BUFFER)_TOO_LARGE$/.test(error.code)) {
        return { tooLarge: error.message };
      }
      throw error;
    }
  }

  #open(placement: ModelPlacement): Promise<MetaRun> {
    return MetaRun.open(this.work, this.#device, placement);
  }

  async #step(run: MetaRun, settings: MemorySettings): Promise<MemoryFigures> {
    const { gpu, session } = run;
    const { checkpointing, tokenBudget } = settings;
    const { training, evaluation } = this.work;
    gpu.memory.trim();
    await gpu.idle();
    gpu.memory.resetPeak();
    const atRest = gpu.memory.report().byPurpose;
    for (const step of training?.steps ?? []) {
      session.parameters.zeroGrad();
      for (const { lengths } of distinct(cut(step, training?.maxSamples, tokenBudget))) {
        await run.gradients(lengths, checkpointing);
      }
      run.update();
    }
    if (evaluation !== undefined) await run.logits(evaluationBatch(evaluation, tokenBudget));
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
  return splitMicroBatches(lengths, limits).map((members) => {
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

/** Token counts of the largest batch. */
function evaluationBatch({ maxSamples, longest }: EvaluationLoad, tokenBudget: number | undefined): number[] {
  const rows = new Array<number>(maxSamples).fill(longest);
  const [batch] = lengthSortedBatches(rows, { maxTokens: tokenBudget ?? Infinity, maxSamples });
  return batch!.map((i) => rows[i]!);
}
