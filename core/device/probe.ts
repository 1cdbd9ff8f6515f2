import { DeviceError } from "../errors.ts";

/** Which binding of Dawn: `bun-webgpu` (FFI) or `webgpu` (Dawn's own, N-API). */
export type Provider = "bun-webgpu" | "webgpu";

/** Kernel variants: `matrix` uses subgroup matrices, `f16` f16 operands, `f32` runs anywhere. */
export type Tier = "f32" | "f16" | "matrix";

/** One shape of subgroup matrix multiply-accumulate that the adapter reports: result M x N, depth K. */
export interface MatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly component: string;
  readonly result: string;
}

/** What was seen to compile and compute on a device. */
export interface Capabilities {
  readonly f16: boolean;
  readonly subgroups: boolean;
  /** Lanes of a subgroup; 0 without subgroups. */
  readonly subgroupSize: number;
  readonly timestamps: boolean;
  /** f16 x f16 -> f32 (and other) shapes; empty without subgroup matrices. */
  readonly matrixShapes: readonly MatrixShape[];
}

/** What `openGpu` found and chose. */
export interface GpuInfo {
  /** `browser`: a page's own WebGPU, which no binding gives. */
  readonly provider: Provider | "browser";
  readonly tier: Tier;
  readonly capabilities: Capabilities;
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
  };
  /** Bounds checks of the driver left on. */
  readonly robustness: boolean;
}

/** The tiers that a device offers, best last. */
export function tiersOf(capabilities: Capabilities): Tier[] {
  const tiers: Tier[] = ["f32"];
  if (capabilities.f16) tiers.push("f16");
  const usable = capabilities.matrixShapes.some((s) => s.component === "f16" && s.result === "f32");
  if (capabilities.f16 && capabilities.subgroups && usable) tiers.push("matrix");
  return tiers;
}

interface MatrixConfig {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** Shapes the adapter lists (Dawn's own binding reports them in its info; bun-webgpu does not). */
export function listedMatrixShapes(adapter: GPUAdapter): MatrixShape[] {
  const configs = (adapter.info as { subgroupMatrixConfigs?: Iterable<MatrixConfig> }).subgroupMatrixConfigs;
  if (configs === undefined) return [];
  return [...configs].map((c) => ({
    m: c.M,
    n: c.N,
    k: c.K,
    component: c.componentType,
    result: c.resultComponentType,
  }));
}

/**
 * Runs two small shaders and keeps what computed the right numbers: features are believed only when they work.
 * @throws DeviceError when not even plain f32 arithmetic comes back right (the Null backend, a broken driver)
 */
export async function probe(device: GPUDevice, adapter: GPUAdapter): Promise<Capabilities> {
  const plain = await runProbe(device, "", "let v = f32(i) * 1.5 + 0.25;", 64);
  if (plain === undefined || plain.some((v, i) => v !== i * 1.5 + 0.25)) {
    throw new DeviceError("DEVICE_COMPUTES_NOTHING", "the adapter accepts shaders but returns wrong numbers", {
      hint: "This is Dawn's Null backend or a broken driver: install a Vulkan driver (Mesa >= 23 gives a software one).",
    });
  }
  const has = (name: string): boolean => device.features.has(name);
  const half = has("shader-f16")
    ? await runProbe(device, "enable f16;", "let v = f32(f16(f32(i) * 0.5) * f16(3.0));", 64)
    : undefined;
  const f16 = half !== undefined && half.every((v, i) => v === i * 1.5);
  const group = has("subgroups")
    ? await runProbe(device, "enable subgroups;", "let v = f32(subgroupAdd(1u));", 64)
    : undefined;
  const subgroupSize = group?.[0] ?? 0;
  return {
    f16,
    subgroups: subgroupSize > 0,
    subgroupSize,
    timestamps: has("timestamp-query"),
    matrixShapes: has("chromium-experimental-subgroup-matrix") ? listedMatrixShapes(adapter) : [],
  };
}

/** Values that a one-line shader computes for i = 0 … n-1, or undefined where it does not compile. */
async function runProbe(device: GPUDevice, head: string, body: string, n: number): Promise<Float32Array | undefined> {
  const code = `${head}\n@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(${n}) fn main(@builtin(local_invocation_index) i: u32) { ${body} out[i] = v; }`;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  if ((await device.popErrorScope()) !== null) return undefined;
  const out = device.createBuffer({ size: n * 4, usage: 0x80 | 0x4 });
  const staging = device.createBuffer({ size: n * 4, usage: 0x1 | 0x8 });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer: out } }],
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, staging, 0, n * 4);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  out.destroy();
  return values;
}
