/** The second half of a step, from gradients to new parameters; training, the benchmark and the memory plan take the same. */
import { GRAD_STATE } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import type { Optimizer } from "../../core/plugin/optimizer.ts";
import { gradNorm } from "../../kernels/grad-norm/index.ts";
import type { Session } from "../session/session.ts";
import { keepTrainingValues } from "./training-values.ts";

/** What one update depends on. */
export interface UpdateSettings {
  /** What gradients were multiplied by. */
  readonly lossScale: number;
  /** Gradients are clipped to it; 0: never. */
  readonly maxGradNorm: number;
  readonly learningRate: number;
  /** 1 for the first update that is applied. */
  readonly update: number;
}

/** What became of it. */
export interface UpdateOutcome {
  /** True where a gradient was not finite: nothing was applied. */
  readonly skipped: boolean;
  /** Norm of all gradients before clipping, as torch's total_norm. */
  readonly totalNorm: number;
}

/** Clips by the global norm and steps the optimizer. */
export class OptimizerStep {
  readonly optimizer: Optimizer;
  readonly #session: Pick<Session, "gpu" | "parameters">;
  readonly #gradState: Tensor;
  #settled = false;

  constructor(session: Pick<Session, "gpu" | "parameters">, optimizer: Optimizer) {
    this.#session = session;
    this.optimizer = keepTrainingValues(optimizer, session);
    this.#gradState = session.gpu.alloc([4], "f32", "gradient state", "optimizer");
  }

  /** Encodes the update; where a gradient is not finite it leaves everything as it is. */
  apply({ lossScale, maxGradNorm, learningRate, update }: UpdateSettings): void {
    const { gpu, parameters } = this.#session;
    gradNorm(gpu, parameters.slabs, this.#gradState, { lossScale, maxNorm: maxGradNorm });
    this.optimizer.step({ learningRate, update, gradState: this.#gradState });
  }

  /** What the last update came to; waits for the GPU. */
  async outcome(): Promise<UpdateOutcome> {
    const state = await this.#session.gpu.readFloats(this.#gradState);
    return { skipped: state[GRAD_STATE.FOUND_INF] !== 0, totalNorm: state[GRAD_STATE.TOTAL_NORM]! };
  }

  /** Runs `body` on the parameters' values for evaluation, where the optimizer has others for it. */
  async evaluating<T>(body: () => Promise<T>): Promise<T> {
    const { optimizer } = this;
    if (this.#settled || optimizer.evaluating === undefined) return body();
    optimizer.evaluating(true);
    try {
      return await body();
    } finally {
      optimizer.evaluating(false);
    }
  }

  /** The parameters were set to what the run ends with: from here on, evaluation and saving take them as they are. */
  settle(): void {
    this.#settled = true;
  }

  destroy(): void {
    this.optimizer.destroy();
    this.#session.gpu.free(this.#gradState);
  }
}
