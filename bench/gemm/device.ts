import { Gpu, type Kernel, openGpu } from "../../core/device/index.ts";
import { type KernelSpec, moduleText } from "../../core/kernel.ts";
import type { DType, Tensor } from "../../core/tensor.ts";
import type { MatrixUnit } from "../../kernels/gemm/index.ts";

/** The device that is measured: tensor cores, bounds checks of the driver off. */
export function benchGpu(): Promise<Gpu> {
  return openGpu({ gpu: "webgpu", tier: "matrix", robustness: false });
}

const held: unknown[] = [];

/** A device of Dawn's Null backend: it validates WGSL, subgroup matrices included, and computes nothing. */
async function nullDevice(): Promise<GPUDevice> {
  const { create, globals } = await import("webgpu");
  for (const [name, value] of Object.entries(globals))
    if (!(name in globalThis)) Object.assign(globalThis, { [name]: value });
  const instance = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await instance.requestAdapter();
  if (adapter === null) throw new Error("no Null backend");
  const wanted = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredFeatures: wanted });
  held.push(instance, adapter);
  return device;
}

/** A `Gpu` that only validates: kernels are compiled as far as WGSL goes, tensors have no memory, nothing runs. */
export class CheckGpu extends Gpu {
  readonly problems: string[] = [];
  /** Every kernel asked for, by key. */
  readonly specs = new Map<string, KernelSpec>();
  readonly #pending: Promise<void>[] = [];
  readonly #nothing: GPUBuffer;

  private constructor(device: GPUDevice, unit: MatrixUnit) {
    const matrixShapes = [{ m: unit.m, n: unit.n, k: unit.k, component: "f16", result: "f32" }];
    const capabilities = { f16: true, subgroups: true, subgroupSize: unit.lanes, timestamps: false, matrixShapes };
    const adapter = { vendor: "", architecture: "", device: "Null", description: "Dawn's Null backend" };
    super(device, { provider: "webgpu", tier: "matrix", capabilities, adapter, robustness: true });
    this.#nothing = device.createBuffer({ size: 256, usage: 0x80 | 0x4 | 0x8 });
  }

  static async open(unit: MatrixUnit): Promise<CheckGpu> {
    const real = await nullDevice();
    // The Null backend reports the least limits; tilings are chosen as on a discrete card.
    const limits = {
      maxComputeInvocationsPerWorkgroup: 1024,
      maxComputeWorkgroupStorageSize: 49152,
      minUniformBufferOffsetAlignment: 256,
    };
    const device = new Proxy(real, {
      get: (target, name) => {
        if (name === "limits") return limits;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    return new CheckGpu(device, unit);
  }

  override kernel(key: string, make: () => KernelSpec): Kernel {
    if (!this.specs.has(key)) {
      const spec = make();
      this.specs.set(key, spec);
      const module = this.device.createShaderModule({ code: moduleText(spec), label: key });
      this.#pending.push(
        module.getCompilationInfo().then(({ messages }) => {
          for (const m of messages) if (m.type === "error") this.problems.push(`${key}:${m.lineNum}: ${m.message}`);
        }),
      );
    }
    return { key } as Kernel;
  }

  override dispatch(): void {}
  override free(): void {}
  override clear(): void {}
  override write(): void {}
  override alloc(shape: readonly number[], dtype: DType, label: string): Tensor {
    return { buffer: this.#nothing, offset: 0, shape, dtype, label };
  }

  /** Waits for every compilation. */
  async finish(): Promise<void> {
    await Promise.all(this.#pending);
  }
}

/** A `Gpu` whose kernels were compiled beforehand, all at once. */
export class CompiledGpu extends Gpu {
  readonly #compiled = new Map<string, Kernel>();

  override kernel(key: string, make: () => KernelSpec): Kernel {
    return this.#compiled.get(key) ?? super.kernel(key, make);
  }

  async compile(specs: ReadonlyMap<string, KernelSpec>): Promise<void> {
    await Promise.all(
      [...specs].map(async ([key, spec]) => this.#compiled.set(key, await this.#compileOne(key, spec))),
    );
  }

  async #compileOne(key: string, spec: KernelSpec): Promise<Kernel> {
    const uniforms = Object.entries(spec.uniforms ?? {});
    const entries: GPUBindGroupLayoutEntry[] = spec.bindings.map((access, binding) => ({
      binding,
      visibility: 4,
      buffer: { type: access === "read" ? "read-only-storage" : "storage" },
    }));
    if (uniforms.length > 0) {
      const minBindingSize = Math.ceil(uniforms.length / 4) * 16;
      entries.push({
        binding: spec.bindings.length,
        visibility: 4,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize },
      });
    }
    const layout = this.device.createBindGroupLayout({ entries, label: key });
    const pipeline = await this.device.createComputePipelineAsync({
      label: key,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: this.device.createShaderModule({ code: moduleText(spec), label: key }), entryPoint: "main" },
    });
    return {
      key,
      pipeline,
      layout,
      storageBindings: spec.bindings.length,
      uniforms,
      groups: new Map<string, GPUBindGroup>(),
    };
  }
}
