/** A model on a GPU that only counts: the real code loads it, takes its steps and evaluates; the planner looks at what that took. */
import type { Checkpointing } from "../../core/compute/blocks.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { type MetaDevice, metaGpu } from "../../core/device/meta.ts";
import { elementCount } from "../../core/device/tensor.ts";
import type { ModelPlacement } from "../../core/plugin/model.ts";
import type { Sample } from "../data/pack.ts";
import { openSession, type Session } from "../session/session.ts";
import { readLogits } from "../training/forward.ts";
import { OptimizerStep } from "../training/optimizer-step.ts";
import { accumulateGradients, type StepLoss } from "../training/step.ts";
import type { Workload } from "./settings.ts";

/** A loaded meta model, which every choice of checkpointing and token budget can use. */
export class MetaRun {
  readonly session: Session;
  /** Kernels that loading it dispatched. */
  readonly loading: Gpu["kernelSpecs"];
  /** Undefined where nothing is trained. */
  readonly #update: OptimizerStep | undefined;

  private constructor(session: Session, { training }: Workload) {
    const { gpu } = session;
    this.session = session;
    this.#update = training && new OptimizerStep(session, training.optimizer(session));
    this.loading = gpu.takeDispatched();
  }

  /** @throws QloraError of every kind that loading would throw */
  static async open(work: Workload, device: MetaDevice, placement: ModelPlacement): Promise<MetaRun> {
    const { source, adapter, numLabels } = work;
    const gpu = metaGpu(device);
    const session = await openSession({ source, adapter, device: {}, gpu, placement, numLabels, seed: 0 });
    return new MetaRun(session, work);
  }

  get gpu(): Gpu {
    return this.session.gpu;
  }

  /** Forward and backward of one micro-batch. @param lengths tokens of its samples */
  async gradients(lengths: readonly number[], checkpointing: Checkpointing, loss: StepLoss = {}): Promise<void> {
    const settings = { limits: { maxTokens: Infinity }, checkpointing, lossScale: 1, stepKey: 0 };
    const meta = lossOnMeta(loss, this.session.numLabels);
    // A plan may be of an odd number of rows, which are no pairs.
    const odd = lengths.length % (loss.taskLoss?.rows ?? 1);
    const whole = odd === 0 ? lengths : [...lengths, lengths.at(-1)!];
    this.gpu.free(await accumulateGradients(this.session, samplesOf(whole), { ...settings, ...meta }));
  }

  /** The forward pass of one batch without gradients. */
  async logits(lengths: readonly number[]): Promise<void> {
    await readLogits(this.session, samplesOf(lengths));
  }

  /** What follows the last micro-batch of a step: clipping and the optimizer; nothing where nothing is trained. */
  update(): void {
    this.#update?.apply({ lossScale: 1, maxGradNorm: 1, learningRate: 0, update: 1 });
  }
}

/** The same kernels without rows: no user-defined loss is called on meaningless numbers. */
function lossOnMeta({ targets, taskLoss, rowLoss }: StepLoss, numLabels: number): StepLoss {
  return {
    taskLoss: taskLoss && {
      ...taskLoss,
      values: ({ length }) => new Float32Array(elementCount(taskLoss.shape(length, numLabels))),
    },
    targets: targets && {
      terms: targets.terms,
      of: ({ length }) =>
        Array.from({ length: targets.terms }, () => ({
          values: new Float32Array(length * numLabels),
          temperature: 1,
        })),
    },
    rowLoss: rowLoss && ((_, { length }) => ({ loss: 0, dLogits: new Float64Array(length) })),
  };
}

function samplesOf(lengths: readonly number[]): Sample[] {
  return lengths.map((length, index) => ({ index, inputIds: new Uint32Array(length), label: 0 }));
}
