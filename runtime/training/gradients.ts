/** How the gradient of an optimizer step comes about: the seam between a step's samples and clipping. */
import type { ParameterSet } from "../../core/compute/parameters.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { QloraError } from "../../core/errors.ts";
import type { StepSample } from "../data/pack.ts";
import type { Session } from "../session/session.ts";
import type { StepShare } from "./reduce.ts";
import { accumulateGradients, type StepSettings } from "./step.ts";

/** What `computeGradients` gets. */
export interface GradientStep {
  /** Optimizer steps done before this one. */
  readonly step: number;
  /** The step's samples; where several ranks train together, those that were dealt to this one. */
  readonly samples: readonly StepSample[];
  /** Gradients are zero at first; what they hold at the end, over `lossScale`, is clipped and given to the optimizer. */
  readonly parameters: ParameterSet;
  /** Gradients are multiplied by it: 1 in tier f32, else the GradScaler's. */
  readonly lossScale: number;
  readonly session: Session;
  /**
   * Adds the gradient of these samples' losses, each over the number of all samples of the step (on all ranks), to every
   * parameter.
   * The step's `loss` is the mean over all samples that were given to it.
   */
  readonly backward: (samples: readonly StepSample[]) => Promise<void>;
}

/**
 * Computes the gradients of one step in your own way; without it: `({ samples, backward }) => backward(samples)`.
 * Gradient surgery, noise, sharpness-aware steps or the sum over several machines have their place here.
 */
export type ComputeGradients = (step: GradientStep) => Promise<void>;

/** Runs `compute` over the samples. @returns the sum of the losses of all samples that were given, and how many they were */
export async function stepGradients(
  session: Session,
  step: Omit<GradientStep, "backward" | "session" | "parameters" | "lossScale">,
  settings: StepSettings,
  compute: ComputeGradients = ({ samples, backward }) => backward(samples),
): Promise<Pick<StepShare, "lossSum" | "samples">> {
  const { gpu, parameters } = session;
  const losses: Tensor[] = [];
  let count = 0;
  const backward = async (samples: readonly StepSample[]): Promise<void> => {
    if (samples.length === 0) return;
    const { stepSamples = step.samples.length / (settings.taskLoss?.rows ?? 1) } = settings;
    losses.push(await accumulateGradients(session, samples, { ...settings, stepSamples }));
    count += samples.length / (settings.taskLoss?.rows ?? 1);
  };
  parameters.zeroGrad();
  await compute({ ...step, session, parameters, lossScale: settings.lossScale, backward });
  const lossSum = async (): Promise<number> => {
    let sum = 0;
    for (const part of losses.splice(0)) {
      sum = (await gpu.readFloats(part)).reduce((total, value) => total + value, sum);
      gpu.free(part);
    }
    return sum;
  };
  if (count > 0 || step.samples.length === 0) return { lossSum, samples: count };
  throw new QloraError("GRADIENTS_MISSING", `step ${step.step + 1}: computeGradients called backward for no sample`, {
    hint: "Call backward(samples) at least once; it adds to the gradients that the optimizer gets.",
  });
}
