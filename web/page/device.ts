/** The visitor's GPU through the browser's own WebGPU. */
import { Gpu } from "../../core/device/gpu.ts";
import { probe, tiersOf } from "../../core/device/probe.ts";
import { DeviceError } from "../../core/errors.ts";

/** Limits that kernels and allocations depend on: all that the GPU has of them is asked for, since a device gets no more. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
] as const;

const FEATURES: readonly GPUFeatureName[] = ["shader-f16", "subgroups"];

const noWebGpu = (message: string, hint: string): DeviceError => new DeviceError("NO_WEBGPU", message, { hint });

/** What to do where there is no WebGPU; by the operating system that the browser tells. */
function advice(agent: string): string {
  if (!isSecureContext) return "Open this page over https, or from localhost: browsers give WebGPU to no other page.";
  if (/Linux/.test(agent) && !/Android/.test(agent))
    return "On Linux, use Chrome or Chromium, and where it still refuses, switch on chrome://flags/#enable-unsafe-webgpu.";
  if (/Firefox/.test(agent)) return "Use Chrome or Edge 113 or newer, Safari 26, or Firefox 141 or newer on Windows.";
  return "Use Chrome or Edge 113 or newer, or Safari 26, and leave graphics acceleration on in the browser's settings.";
}

/**
 * Opens the visitor's GPU in its best tier.
 * @throws DeviceError with what the visitor can do
 */
export async function openBrowserGpu(): Promise<Gpu> {
  const hint = advice(navigator.userAgent);
  if (!("gpu" in navigator)) throw noWebGpu("This browser has no WebGPU, which runs the judge on your GPU.", hint);
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw noWebGpu("This browser has WebGPU, and found no GPU that it may use.", hint);
  const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const capabilities = await probe(device, adapter);
  const { vendor, architecture, device: name, description } = adapter.info;
  return new Gpu(device, {
    provider: "browser",
    tier: tiersOf(capabilities).at(-1)!,
    capabilities,
    adapter: { vendor, architecture, device: name, description },
    robustness: true,
  });
}
