/** How much of the GPU's memory a run may take: as the user says, else as the system tells. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { promisify } from "node:util";
import type { GpuInfo } from "../../core/device/probe.ts";
import { formatBytes, parseBytes } from "../../core/util/byte-size.ts";

/** Node 20 before 20.13 does not tell what is available, only what is free. */
const availableMemory = (process as { readonly availableMemory?: () => number }).availableMemory ?? freemem;

/** Memory that a run may take on the GPU. */
export interface MemoryBudget {
  /** Undefined where nothing is known. */
  readonly bytes: number | undefined;
  /** Where the number comes from, or why there is none; a part of a sentence. */
  readonly source: string;
}

/** What the driver takes beside our buffers: pipelines, staging for uploads, what it rounds up. */
export function driverMargin(free: number): number {
  return Math.max(512 * 2 ** 20, 0.03 * free);
}

const less = (free: number, source: string): MemoryBudget => {
  const margin = driverMargin(free);
  return {
    bytes: Math.max(0, free - margin),
    source: `${formatBytes(free)} ${source}, less ${formatBytes(margin)} for the driver`,
  };
};

/**
 * The budget of a device. WebGPU itself tells nothing of memory, so the system is asked.
 * @param given the option memoryBudget, which is taken as it stands
 */
export async function memoryBudget({ adapter }: GpuInfo, given: string | undefined): Promise<MemoryBudget> {
  const bytes = given === undefined ? undefined : parseBytes(given);
  if (bytes !== undefined) return { bytes, source: `${formatBytes(bytes)} given as memoryBudget` };
  const name = `${adapter.description} ${adapter.device} ${adapter.vendor} ${adapter.architecture}`;
  if (/llvmpipe|lavapipe|swiftshader|software/i.test(name)) {
    return less(availableMemory(), "of the host's memory available to the software driver");
  }
  if (/nvidia/i.test(name)) {
    const free = freeOnNvidia(await output("nvidia-smi", NVIDIA_QUERY), name);
    if (free !== undefined) return less(free, "free as nvidia-smi tells");
  }
  if (/\bamd\b|radeon|\bati\b/i.test(name)) {
    const free = await freeOnAmd();
    if (free !== undefined) return less(free, "free as the amdgpu driver tells");
  }
  if (/apple/i.test(name)) return less(0.75 * totalmem(), "or three quarters of the memory shared with the CPU");
  return {
    bytes: undefined,
    source: "the system does not tell this device's memory: only the sizes of single buffers are checked",
  };
}

const NVIDIA_QUERY = ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits"];

/**
 * Free bytes from nvidia-smi's CSV lines `name, MiB`: of the cards with the adapter's name, else of all, the smallest,
 * since which of several cards the driver gives is not told.
 */
export function freeOnNvidia(text: string | undefined, adapter: string): number | undefined {
  const cards = (text ?? "").split("\n").flatMap((line) => {
    const [, name, free] = /^(.+),\s*(\d+)\s*$/.exec(line) ?? [];
    return name === undefined ? [] : [{ name, free: Number(free) * 2 ** 20 }];
  });
  const named = cards.filter(({ name }) => adapter.includes(name));
  const chosen = (named.length > 0 ? named : cards).map(({ free }) => free);
  return chosen.length === 0 ? undefined : Math.min(...chosen);
}

const CARDS = "/sys/class/drm";

/** Free bytes of the smallest AMD card, from sysfs; undefined where there is none. */
async function freeOnAmd(): Promise<number | undefined> {
  const free: number[] = [];
  for (const card of existsSync(CARDS) ? await readdir(CARDS) : []) {
    const total = `${CARDS}/${card}/device/mem_info_vram_total`;
    if (!card.startsWith("card") || !existsSync(total)) continue;
    const used = total.replace(/total$/, "used");
    free.push(Number(await readFile(total, "utf8")) - Number(await readFile(used, "utf8")));
  }
  return free.length === 0 ? undefined : Math.min(...free);
}

/** What a command prints; undefined where it is not there or fails: then nothing is known, and the plan says so. */
async function output(command: string, args: readonly string[]): Promise<string | undefined> {
  return promisify(execFile)(command, [...args], { timeout: 10_000 }).then(
    ({ stdout }) => stdout,
    () => undefined,
  );
}
