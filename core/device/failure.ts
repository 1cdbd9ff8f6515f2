/** What a device reports, as errors that say what to do. */
import { DeviceError } from "../errors.ts";
import { formatBytes } from "../util/byte-size.ts";
import type { MemoryReport } from "./memory.ts";

/** Options that lower memory, the most costly last. */
export const LOWER_MEMORY =
  "Use --memory lean; or lower --token-budget, --per-device-train-batch-size or --max-length, set --gradient-checkpointing block, " +
  "and put the token table on the host with --model.embeddings host.";

/** Drivers word it differently: Vulkan's result codes, Dawn's own message, D3D12's and Metal's. */
const OUT_OF_MEMORY = /out[ _-]?of[ _-]?(device[ _-]?|host[ _-]?)?memory|E_OUTOFMEMORY|insufficient memory/i;

/** As Dawn and the drivers below it say that the device is gone. */
const LOST = /device( "[^"]*")?\]?[ _]?(is |was )?(lost|removed|hung|reset)/i;

/** What an error event says, its kind included where the message leaves it out. */
export function reportOf(error: GPUError): string {
  const { message } = error;
  return error.constructor.name === "GPUOutOfMemoryError" && !OUT_OF_MEMORY.test(message)
    ? `out of memory: ${message}`
    : message;
}

/** The driver refused memory. */
export function outOfMemory(reason: string, memory: MemoryReport, cause?: unknown): DeviceError {
  const parts = Object.entries(memory.byPurpose)
    .filter(([, bytes]) => bytes > 0)
    .toSorted(([, a], [, b]) => b - a)
    .map(([purpose, bytes]) => `${purpose} ${formatBytes(bytes)}`);
  const held = `${formatBytes(memory.used + memory.pooled)} were held (${[...parts, `kept for reuse ${formatBytes(memory.pooled)}`].join(", ")})`;
  return new DeviceError("OUT_OF_MEMORY", `the GPU's driver refused memory: ${reason}; ${held}`, {
    hint: LOWER_MEMORY,
    cause,
  });
}

/** The error for what a device reported, the cause before its consequences; undefined for no reports. */
export function deviceFailure(
  reports: readonly string[],
  lost: string | undefined,
  memory: MemoryReport,
): DeviceError | undefined {
  const refused = [...reports, ...(lost === undefined ? [] : [lost])].find((report) => OUT_OF_MEMORY.test(report));
  if (refused !== undefined) return outOfMemory(refused, memory);
  if (lost !== undefined) {
    return new DeviceError("DEVICE_LOST", `the GPU was lost (${lost})`, {
      hint: "Out of memory or a driver fault: try --memory lean, then resume from the last checkpoint.",
    });
  }
  return reports[0] === undefined ? undefined : new DeviceError("DEVICE_ERROR", `the GPU reported: ${reports[0]}`);
}

/** The error for a kernel that was not compiled: the device's own failure where that is why, else the kernel's. */
export function compileFailure(
  cause: unknown,
  reports: readonly string[],
  lost: string | undefined,
  memory: MemoryReport,
): DeviceError {
  const said = String(cause);
  const failure = deviceFailure([said, ...reports], lost ?? (LOST.test(said) ? said : undefined), memory);
  if (failure !== undefined && failure.code !== "DEVICE_ERROR") return failure;
  return new DeviceError("KERNEL_INVALID", `a kernel does not compile: ${said}`, { cause });
}
