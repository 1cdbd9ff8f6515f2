import { describeDevice, NVIDIA, type MetaDevice } from "../core/device/meta.ts";
import { DeviceError } from "../core/errors.ts";
import type { ModelLoader, ModelPlacement } from "../core/plugin/model.ts";
import { type Config, requireConfig } from "../runtime/config/config.ts";
import { type MemoryBudget, memoryBudget } from "../runtime/device/budget.ts";
import { openGpu } from "../runtime/device/open.ts";
import { MemoryAccount } from "../runtime/planning/account.ts";
import { keepsDequantized } from "../runtime/planning/open.ts";
import { planMemory } from "../runtime/planning/plan.ts";
import type { Workload, MemoryMode, MemoryPlan } from "../runtime/planning/settings.ts";
import { givenSettings, workloadOf } from "../runtime/planning/training-plan.ts";
import { openBaseModel } from "../runtime/session/base-model.ts";
import { benchSource } from "./bench-source.ts";
import { labelsOf } from "./inspect.ts";
import { readLengths } from "./lengths.ts";
import { type PlanCommandOptions, planOptions } from "./plan-options.ts";

/** A mode's plan, or why it has none. */
export type PlannedMode =
  | { readonly mode: MemoryMode; readonly plan: MemoryPlan }
  | { readonly mode: MemoryMode; readonly problem: string; readonly hint: string | undefined };

/** What `plan` gives. */
export interface PlanReport {
  readonly device: string;
  readonly tier: string;
  readonly budget: MemoryBudget;
  readonly blocks: number;
  readonly samplesPerStep: number;
  /** Tokens of the longest sample that is planned for. */
  readonly longestSample: number;
  /** The mode of the config. */
  readonly chosen: MemoryMode;
  readonly modes: readonly PlannedMode[];
}

/** Which device is planned for. */
export type PlanDevice = "this" | "nvidia";

/**
 * Plans all three modes.
 * @param on `this` asks this machine's device; `nvidia` takes what Dawn tells of an NVIDIA card with tensor cores
 * @throws DeviceError where `this` has none; as loading the model's headers
 */
export async function reportPlan(
  config: Config,
  { source, work, on }: { readonly source: ModelLoader; readonly work: Workload; readonly on: PlanDevice },
): Promise<PlanReport> {
  const device = on === "this" ? await thisDevice(config) : nvidia(config);
  const budget =
    on === "this" || config.device.memoryBudget !== undefined
      ? await memoryBudget(device.info, config.device.memoryBudget)
      : { bytes: undefined, source: "no card was asked and no memoryBudget is given: only single buffers are checked" };
  const account = new MemoryAccount(work, device);
  const given = givenSettings(config, source);
  const modes: PlannedMode[] = [];
  for (const mode of ["lean", "auto", "fast"] as const) {
    try {
      modes.push({ mode, plan: await planMemory(account, { mode, given, budget, keeps: keepsDequantized(device) }) });
    } catch (error) {
      if (!(error instanceof DeviceError) || error.code !== "MEMORY_SHORT") throw error;
      modes.push({ mode, problem: error.message, hint: error.hint });
    }
  }
  const { adapter, tier, provider } = device.info;
  const { perDeviceTrainBatchSize, gradientAccumulationSteps } = config.training;
  return {
    device: `${adapter.description || adapter.device}${on === "this" ? ` (${provider})` : ""}`,
    tier,
    budget,
    blocks: await account.blocks(),
    samplesPerStep: perDeviceTrainBatchSize * gradientAccumulationSteps,
    longestSample: account.longest,
    chosen: config.training.memory,
    modes,
  };
}

async function thisDevice({ device }: Config): Promise<MetaDevice> {
  const gpu = await openGpu(device);
  const described = describeDevice(gpu);
  gpu.destroy();
  return described;
}

function nvidia({ device: { tier } }: Config): MetaDevice {
  return tier === "auto" ? NVIDIA : { ...NVIDIA, info: { ...NVIDIA.info, tier } };
}

/**
 * How much GPU memory a config's run takes in each mode of `training.memory`, from config.json and headers alone.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example const { modes } = await plan(config, { on: "nvidia" });
 */
export async function plan(config: Config, options: Partial<PlanCommandOptions> = {}): Promise<PlanReport> {
  requireConfig(config);
  const { shape, layers, on, lengths: file } = planOptions.parse(options, "plan");
  const lengths = file === undefined ? undefined : await readLengths(file);
  const { embeddings, keepDequantized } = config.model.options as Partial<ModelPlacement>;
  const source =
    shape === undefined
      ? (await openBaseModel(config.model, { part: "config" })).source
      : benchSource({ shape, layers, embeddings, keepDequantized });
  const work = workloadOf(config, source, await labelsOf(config, source), lengths);
  return reportPlan(config, { source, work, on });
}
