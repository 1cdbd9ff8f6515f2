/** A model with an adapter on a device that tests share, and what contracts ask of it. */
import type { ForwardOptions } from "../core/compute/blocks.ts";
import type { ParameterSet } from "../core/compute/parameters.ts";
import type { Gpu } from "../core/device/gpu.ts";
import type { Tensor } from "../core/device/tensor.ts";
import type { AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelLoader } from "../core/plugin/model.ts";
import { uniformValues } from "../core/util/random.ts";
import { crossEntropy } from "../kernels/cross-entropy/index.ts";
import { type Sample } from "../runtime/data/pack.ts";
import { openSessionOn, type Session } from "../runtime/session/session.ts";
import { forwardPass } from "../runtime/training/forward.ts";
import { accumulateGradients } from "../runtime/training/step.ts";

/** Values or gradients by parameter name. */
export type NamedValues = Map<string, Float32Array<ArrayBuffer>>;

/** How a session is opened. */
export interface SessionSettings {
  /** Classes. Default 3. */
  readonly numLabels?: number;
  /** Of first values and dropout. Default 1. */
  readonly seed?: number;
  /** Folder of an adapter whose values replace the fresh ones. */
  readonly initAdapter?: string;
}

/** How a pass is run; defaults: no checkpointing, all samples in one batch, dropout of step 0. */
export interface PassSettings {
  readonly checkpointing?: ForwardOptions["checkpointing"];
  readonly maxSamples?: number;
  readonly stepKey?: number;
}

/** f16 gradients below 6e-8 would be zero. */
const LOSS_SCALE = 1024;

/**
 * A model with an adapter on it, on a GPU that stays open: logits, losses and gradients of samples, read back.
 * @example
 * using bench = await ModelBench.open(gpu, toyModel(), lora());
 * const logits = await bench.logits(randomSamples([5, 1, 17], 61));
 */
export class ModelBench {
  readonly session: Session;
  readonly #seed: number;

  private constructor(session: Session, seed: number) {
    this.session = session;
    this.#seed = seed;
  }

  /** @throws ModelError, DeviceError */
  static async open(
    gpu: Gpu,
    source: ModelLoader,
    adapter: AdapterPlugin,
    { numLabels = 3, seed = 1, initAdapter }: SessionSettings = {},
  ): Promise<ModelBench> {
    return new ModelBench(await openSessionOn(gpu, { source, adapter, numLabels, seed, initAdapter }), seed);
  }

  get parameters(): ParameterSet {
    return this.session.parameters;
  }

  /** [B, numLabels] logits as evaluation computes them. */
  async logits(samples: readonly Sample[], onHidden?: (hidden: Tensor) => void): Promise<Float32Array<ArrayBuffer>> {
    const { gpu } = this.session;
    return forwardPass(this.session, samples, ({ logits }) => gpu.readFloats(logits), { onHidden });
  }

  /** Mean loss in training, dropout included; summed in f64. */
  async loss(samples: readonly Sample[], stepKey = 0): Promise<number> {
    const { gpu } = this.session;
    const losses = await forwardPass(
      this.session,
      samples,
      ({ tape, logits, batch }) => gpu.readFloats(crossEntropy(tape, logits, batch.labels)),
      { training: true, stepKey },
    );
    return losses.reduce((sum, loss) => sum + loss, 0) / samples.length;
  }

  /** Gradients of the mean loss in training. */
  async gradients(
    samples: readonly Sample[],
    { checkpointing = "none", maxSamples, stepKey = 0 }: PassSettings = {},
  ): Promise<NamedValues> {
    const { gpu, parameters } = this.session;
    const lossScale = gpu.computeDtype === "f16" ? LOSS_SCALE : 1;
    const limits = { maxTokens: Number.MAX_SAFE_INTEGER, maxSamples };
    parameters.zeroGrad();
    gpu.free(await accumulateGradients(this.session, samples, { limits, checkpointing, lossScale, stepKey }));
    const gradients = await parameters.readGradients();
    for (const gradient of gradients.values()) for (const i of gradient.keys()) gradient[i]! /= lossScale;
    return gradients;
  }

  /** Sets parameters' values. */
  write(values: ReadonlyMap<string, Float32Array<ArrayBuffer>>): void {
    for (const [name, value] of values) this.session.gpu.write(this.parameters.get(name).value, value);
  }

  /** Moves every parameter by a tenth of its size, or of what a fresh linear would have, and gives the new values. */
  async perturb(): Promise<NamedValues> {
    const values = await this.parameters.readValues();
    for (const [name, value] of values) {
      const size = Math.max(0.5, Math.max(...value.map(Math.abs)));
      const noise = uniformValues(value.length, 0.2 * size, this.#seed, `perturb ${name}`);
      for (const i of value.keys()) value[i]! += noise[i]!;
    }
    this.write(values);
    return values;
  }

  /** Gives the memory back; the GPU stays open. */
  [Symbol.dispose](): void {
    this.session[Symbol.dispose]();
  }
}

/** Samples of these lengths with random ids below `vocabSize` and labels that take turns. */
export function randomSamples(
  lengths: readonly number[],
  vocabSize: number,
  { numLabels = 3, seed = 1 }: { numLabels?: number; seed?: number } = {},
): Sample[] {
  return lengths.map((length, index) => ({
    index,
    inputIds: Uint32Array.from(uniformValues(length, 0.5, seed, `ids ${index}`), (u) =>
      Math.min(vocabSize - 1, Math.floor((u + 0.5) * vocabSize)),
    ),
    label: index % numLabels,
  }));
}
