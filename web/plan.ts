/** What a judge needs of a GPU, found by running it on one that only counts: before anything large is downloaded. */
import type { Gpu } from "../core/device/gpu.ts";
import { type MetaDevice, metaGpu } from "../core/device/meta.ts";
import { DeviceError } from "../core/errors.ts";
import type { Folder } from "../core/formats/bytes.ts";
import type { AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelLoader } from "../core/plugin/model.ts";
import type { Sample } from "../runtime/data/pack.ts";
import { loadSession, type Session } from "../runtime/session/load.ts";
import { readLogits } from "../runtime/training/forward.ts";
import { type SiteFolders, judgeParts } from "./parts.ts";
import type { SiteManifest } from "./manifest.ts";

/** What was found. */
export interface JudgePlan {
  /** Most bytes of GPU memory at once, for a row of `maxLength` tokens. */
  readonly memoryBytes: number;
  /** Of that, what stays while nothing is judged. */
  readonly restingBytes: number;
  /** Kernels of loading and of a row of so many tokens. @throws as `planJudge` */
  kernels(tokens: number): Promise<Gpu["kernelSpecs"]>;
}

/** A judge that is planned. */
export interface PlannedParts {
  readonly source: ModelLoader;
  readonly adapter: AdapterPlugin;
  readonly numLabels: number;
  /** Most tokens of a row. */
  readonly maxLength: number;
  /** The adapter's files; without them its first values are planned with, which take as much. */
  readonly initAdapter?: Folder | undefined;
}

/**
 * Plans a page's judge for a device.
 * @throws DeviceError where a buffer, or a kernel's number of buffers, is more than it allows; ModelError for damaged files
 */
export async function planJudge(manifest: SiteManifest, folders: SiteFolders, device: MetaDevice): Promise<JudgePlan> {
  const { numLabels, tokens } = manifest;
  const parts = await judgeParts(manifest, folders);
  return planParts({ ...parts, numLabels, maxLength: tokens.maxLength, initAdapter: folders.adapter }, device);
}

/** The same of a model and an adapter. @throws as `planJudge` */
export async function planParts({ maxLength, ...parts }: PlannedParts, device: MetaDevice): Promise<JudgePlan> {
  const gpu = metaGpu(device);
  const session = await loadSession(gpu, { ...parts, seed: 0, placement: PLACEMENT }, () => gpu.destroy());
  const loading = gpu.takeDispatched();
  const { used: restingBytes } = gpu.memory.report();
  const known = new Map<number, Promise<Gpu["kernelSpecs"]>>();
  let last: Promise<unknown> = Promise.resolve();
  const kernels = (tokens: number): Promise<Gpu["kernelSpecs"]> => {
    const made =
      known.get(tokens) ?? last.then(async () => new Map([...loading, ...(await dispatchedBy(session, tokens))]));
    last = made.catch(() => {}); // the caller sees the rejection
    known.set(tokens, made);
    return made;
  };
  const all = await kernels(maxLength);
  checkBuffers(all, device);
  return { memoryBytes: gpu.memory.report().peak, restingBytes, kernels };
}

/** What desktop Chrome gives on nearly every GPU, for plans on a machine that has no browser. */
export function browserDevice(tier: "f16" | "f32"): MetaDevice {
  return {
    info: {
      provider: "browser",
      tier,
      capabilities: { f16: tier === "f16", subgroups: false, subgroupSize: 0, timestamps: false, matrixShapes: [] },
      adapter: { vendor: "", architecture: "", device: "", description: "a GPU in desktop Chrome" },
      robustness: true,
    },
    limits: {
      maxBufferSize: 2 ** 30,
      maxStorageBufferBindingSize: 2 ** 30,
      maxStorageBuffersPerShaderStage: 10,
      maxComputeWorkgroupStorageSize: 32 * 1024,
      maxComputeInvocationsPerWorkgroup: 256,
      minUniformBufferOffsetAlignment: 256,
    },
  };
}

/** The token table, the largest tensor, stays in the page's own memory: a row needs little of it. */
export const PLACEMENT = { embeddings: "host", keepDequantized: false } as const;

async function dispatchedBy(session: Session, tokens: number): Promise<Gpu["kernelSpecs"]> {
  const sample: Sample = { index: 0, inputIds: new Uint32Array(tokens), label: undefined };
  await readLogits(session, [sample]);
  return session.gpu.takeDispatched();
}

/** A kernel binds its buffers all at once: more than the device has places for cannot run at all. */
function checkBuffers(kernels: Gpu["kernelSpecs"], { limits, info }: MetaDevice): void {
  const most = limits.maxStorageBuffersPerShaderStage;
  for (const [key, { bindings }] of kernels) {
    if (bindings.length <= most) continue;
    throw new DeviceError(
      "LIMIT_TOO_LOW",
      `kernel ${key} binds ${bindings.length} storage buffers; ${info.adapter.description || "this GPU"} allows ${most} (maxStorageBuffersPerShaderStage)`,
      { hint: "Use another GPU or a newer browser: Chrome allows 10 on nearly every GPU." },
    );
  }
}
