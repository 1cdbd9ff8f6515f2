/**
 * A meta GPU: buffers have sizes and nothing else, and no work is done. The real code runs on it for the planner's
 * account of memory, so that the account is what the code would allocate and no formula beside it.
 */
import { Gpu } from "./gpu.ts";
import type { GpuInfo, MatrixShape } from "./probe.ts";

/** The limits of a device that kernels and allocations depend on. */
export interface MetaLimits {
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly minUniformBufferOffsetAlignment: number;
}

/** A device as the planner knows it. */
export interface MetaDevice {
  readonly info: GpuInfo;
  readonly limits: MetaLimits;
  /** Bytes after which an allocation is refused as a driver does it; default: never. */
  readonly capacity?: number | undefined;
}

const shape = (m: number, n: number, k: number): MatrixShape => ({ m, n, k, component: "f16", result: "f32" });

/** What Dawn's own binding tells of an NVIDIA card with tensor cores (H100, driver 580). */
export const NVIDIA: MetaDevice = {
  info: {
    provider: "webgpu",
    tier: "matrix",
    capabilities: {
      f16: true,
      subgroups: true,
      subgroupSize: 32,
      timestamps: true,
      matrixShapes: [shape(16, 16, 16), shape(16, 8, 16), shape(16, 8, 8)],
    },
    adapter: { vendor: "nvidia", architecture: "", device: "", description: "an NVIDIA GPU with tensor cores" },
    robustness: true,
  },
  limits: {
    maxBufferSize: 2 ** 40,
    maxStorageBufferBindingSize: 2_147_483_644,
    maxStorageBuffersPerShaderStage: 16,
    maxComputeWorkgroupStorageSize: 48 * 1024,
    maxComputeInvocationsPerWorkgroup: 1024,
    minUniformBufferOffsetAlignment: 64,
  },
};

/** What of a real device the planner needs; the device may be closed afterwards. */
export function describeDevice(gpu: Gpu): MetaDevice {
  const { limits } = gpu.device;
  return {
    info: gpu.info,
    limits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      minUniformBufferOffsetAlignment: limits.minUniformBufferOffsetAlignment,
    },
  };
}

/** A GPU that allocates as the device would, and computes nothing: reads give zeros. */
export function metaGpu(device: MetaDevice): Gpu {
  return new Gpu(metaDevice(device), device.info, { isMeta: true });
}

const nothing = (): void => {};

function metaDevice({ limits, capacity = Infinity }: MetaDevice): GPUDevice {
  let held = 0;
  const listeners: ((event: { error: { message: string } }) => void)[] = [];
  const createBuffer = ({ size, usage, label = "" }: GPUBufferDescriptor): unknown => {
    held += size;
    if (held > capacity)
      for (const tell of listeners) tell({ error: { message: `VK_ERROR_OUT_OF_DEVICE_MEMORY: ${label}` } });
    let live = true;
    let bytes: ArrayBuffer | undefined;
    return {
      size,
      usage,
      label,
      destroy: () => {
        if (live) held -= size;
        live = false;
      },
      mapAsync: async () => {},
      getMappedRange: () => (bytes ??= new ArrayBuffer(size)),
      unmap: nothing,
    };
  };
  const pass = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing };
  const encoder = {
    beginComputePass: () => pass,
    clearBuffer: nothing,
    copyBufferToBuffer: nothing,
    finish: () => ({}),
  };
  return {
    limits,
    features: new Set<string>(),
    lost: new Promise(nothing),
    queue: { writeBuffer: nothing, submit: nothing, onSubmittedWorkDone: async () => {} },
    addEventListener: (_: string, listener: (typeof listeners)[number]) => listeners.push(listener),
    createBuffer,
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipeline: () => ({}),
    createComputePipelineAsync: async () => ({}),
    createBindGroup: () => ({}),
    createCommandEncoder: () => encoder,
    destroy: nothing,
  } as unknown as GPUDevice;
}
