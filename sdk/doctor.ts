import { existsSync } from "node:fs";
import type { Gpu } from "../core/device/gpu.ts";
import { tiersOf } from "../core/device/probe.ts";
import { type DeviceOptions, deviceOptions } from "../runtime/config/device-options.ts";
import { openGpu } from "../runtime/device/open.ts";
import { deviceWay, hasSelectLayer } from "../runtime/distributed/choose-device.ts";
import { nvidiaNodes } from "../runtime/distributed/gpus.ts";
import { type VulkanDevice, vulkanDevices } from "../runtime/distributed/vulkan-devices.ts";

import { selfTest, type SelfTest } from "./self-test.ts";

/** A device of the machine; its tiers are those of the opened one where it is of the same kind. */
export interface DoctorDevice extends VulkanDevice {
  readonly tiers: readonly string[] | undefined;
}

/** What the device is, and whether it computes right. */
export interface DoctorReport {
  readonly provider: string;
  readonly adapter: string;
  readonly driver: string;
  readonly tier: string;
  /** Every tier the device offers. */
  readonly tiers: readonly string[];
  /** Every device that the Vulkan loader lists, by the number that --device takes; empty where it tells none. */
  readonly devices: readonly DoctorDevice[];
  /** How several ranks get a card each. */
  readonly deviceWay: string;
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
  const all = (await vulkanDevices()) ?? []; // before one of them is chosen: the others are hidden then
  const hides = nvidiaNodes(all.filter(({ software }) => !software)) !== undefined && existsSync("/usr/bin/unshare");
  const gpu = await openGpu(device);
  try {
    const { adapter, capabilities } = gpu.info;
    return {
      provider: gpu.info.provider,
      adapter: adapter.device || adapter.vendor,
      driver: adapter.description,
      tier: gpu.tier,
      tiers: tiersOf(capabilities),
      devices: all.map((one) => {
        const same = `${adapter.device} ${adapter.description}`.includes(one.name.split(" (")[0]!);
        return { ...one, tiers: same ? tiersOf(capabilities) : undefined };
      }),
      deviceWay: deviceWay(all, hasSelectLayer(), hides),
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

/**
 * What the device is, and whether it computes right.
 * @throws DeviceError
 * @example console.log((await doctor()).tier);
 */
export async function doctor(device: Partial<DeviceOptions> = {}): Promise<DoctorReport> {
  return examineDevice(deviceOptions.parse(device, "device"), selfTest);
}
