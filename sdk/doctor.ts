import type { Gpu } from "../core/device/gpu.ts";
import { tiersOf } from "../core/device/probe.ts";
import type { DeviceOptions } from "../runtime/config/device-options.ts";
import { openGpu } from "../runtime/device/open.ts";

/** One small kernel against its reference. */
export interface SelfTest {
  readonly name: string;
  /** Largest relative error. */
  readonly error: number;
  readonly tolerance: number;
}

/** What the device is, and whether it computes right. */
export interface DoctorReport {
  readonly provider: string;
  readonly adapter: string;
  readonly driver: string;
  readonly tier: string;
  /** Every tier the device offers. */
  readonly tiers: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  readonly selfTest: readonly SelfTest[];
}

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** Opens the device as training would, describes it and runs the self-tests. @throws DeviceError where no driver answers */
export async function examineDevice(
  device: Partial<DeviceOptions>,
  selfTest: (gpu: Gpu) => Promise<SelfTest[]>,
): Promise<DoctorReport> {
  const gpu = await openGpu(device);
  try {
    const { adapter, capabilities } = gpu.info;
    return {
      provider: gpu.info.provider,
      adapter: adapter.device || adapter.vendor,
      driver: adapter.description,
      tier: gpu.tier,
      tiers: tiersOf(capabilities),
      limits: Object.fromEntries(LIMITS.map((name) => [name, gpu.device.limits[name]])),
      features: [
        ...(capabilities.f16 ? ["f16"] : []),
        ...(capabilities.subgroups ? [`subgroups of ${capabilities.subgroupSize}`] : []),
        ...(capabilities.timestamps ? ["timestamps"] : []),
        ...capabilities.matrixShapes.map((s) => `matrix ${s.component} ${s.m}x${s.n}x${s.k} -> ${s.result}`),
      ],
      selfTest: await selfTest(gpu),
    };
  } finally {
    gpu.destroy();
  }
}
