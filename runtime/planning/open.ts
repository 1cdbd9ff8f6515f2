import type { Gpu } from "../../core/device/gpu.ts";
import { describeDevice, type MetaDevice } from "../../core/device/meta.ts";
import type { DeviceOptions } from "../config/device-options.ts";
import { memoryBudget } from "../device/budget.ts";
import { openGpu } from "../device/open.ts";
import type { StepLoss } from "../training/step.ts";
import { MemoryAccount } from "./account.ts";
import type { KernelForecast } from "./forecast.ts";
import { planMemory } from "./plan.ts";
import type { Workload, FavoredSettings, UserSettings, MemoryMode, MemoryPlan } from "./settings.ts";

/** Steps that are taken of lengths in turn. */
const MAX_STEPS = 8;

/** Steps of samples that have these lengths in turn: until they repeat, or a few of them. */
export function stepsOf(lengths: readonly number[], samplesPerStep: number): number[][] {
  const steps = Math.min(MAX_STEPS, Math.ceil(lengths.length / samplesPerStep));
  return Array.from({ length: steps }, (_, step) =>
    Array.from({ length: samplesPerStep }, (_, i) => lengths[(step * samplesPerStep + i) % lengths.length]!),
  );
}

/** f16 copies of the weights serve the kernels of tier matrix only. */
export function keepsDequantized({ info }: MetaDevice): boolean {
  return info.tier === "matrix";
}

/** What is planned, and on which GPU. */
export interface OpenRequest {
  readonly device: Partial<DeviceOptions>;
  readonly mode: MemoryMode;
  readonly given: UserSettings;
  /** Taken where they fit. */
  readonly favored?: FavoredSettings | undefined;
  readonly work: Workload;
  /** Of training steps; default: cross entropy with the samples' labels. */
  readonly loss?: StepLoss | undefined;
}

/** A GPU, the plan of what will run on it, and which kernels that will dispatch. */
export interface Planned {
  readonly gpu: Gpu;
  readonly plan: MemoryPlan;
  readonly forecast: KernelForecast;
}

/**
 * Opens the GPU and plans the work on it.
 * @throws DeviceError as `openGpu`, and MEMORY_SHORT where the work does not fit
 */
export async function openPlanned({
  device: options,
  mode,
  given,
  favored,
  work,
  loss,
}: OpenRequest): Promise<Planned> {
  const gpu = await openGpu(options);
  try {
    const device = describeDevice(gpu);
    const budget = await memoryBudget(device.info, options.memoryBudget);
    const account = new MemoryAccount(work, device);
    const plan = await planMemory(account, { mode, given, budget, favored, keeps: keepsDequantized(device) });
    gpu.memory.limit = budget.bytes ?? Infinity;
    return { gpu, plan, forecast: await account.forecast(plan.settings, loss) };
  } catch (error) {
    gpu.destroy();
    throw error;
  }
}
