/** The kernels of a device: compiled when they are first asked for, or up front, all those that a plan has met. */
import { type KernelSpec, moduleText, type UniformType } from "../kernel.ts";

/** A compiled kernel, made by `Gpu.kernel`. */
export interface Kernel {
  readonly key: string;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly storageBindings: number;
  readonly uniforms: readonly (readonly [string, UniformType])[];
  /** @internal bind groups by the buffers they bind */
  readonly groups: Map<string, GPUBindGroup>;
}

/** A device's kernels by key. */
export class Kernels {
  /** What each kernel was made of. */
  readonly specs = new Map<string, KernelSpec>();
  readonly #device: GPUDevice;
  readonly #made = new Map<string, Kernel>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** The kernel of this key, compiled on first use. */
  get(key: string, make: () => KernelSpec): Kernel {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const spec = make();
    const { layout, descriptor } = this.#describe(key, spec);
    return this.#keep(key, spec, layout, this.#device.createComputePipeline(descriptor));
  }

  /**
   * Compiles those that are missing.
   * @param background in the driver's own threads; otherwise one after the other, with room for other work between them
   * @param onProgress kernels compiled, and in total
   */
  async compile(
    specs: ReadonlyMap<string, KernelSpec>,
    background: boolean,
    onProgress?: (done: number, total: number) => void,
  ): Promise<void> {
    const missing = [...specs].filter(([key]) => !this.#made.has(key));
    let done = 0;
    const one = async ([key, spec]: readonly [string, KernelSpec]): Promise<void> => {
      const { layout, descriptor } = this.#describe(key, spec);
      const pipeline = background
        ? await this.#device.createComputePipelineAsync(descriptor)
        : this.#device.createComputePipeline(descriptor);
      // Whoever could not wait has compiled it meanwhile.
      if (!this.#made.has(key)) this.#keep(key, spec, layout, pipeline);
      onProgress?.(++done, missing.length);
    };
    if (background) await Promise.all(missing.map(one));
    else
      for (const kernel of missing) {
        await one(kernel);
        await Bun.sleep(0);
      }
  }

  #describe(
    key: string,
    spec: KernelSpec,
  ): { readonly layout: GPUBindGroupLayout; readonly descriptor: GPUComputePipelineDescriptor } {
    const uniforms = Object.keys(spec.uniforms ?? {}).length;
    const entries: GPUBindGroupLayoutEntry[] = spec.bindings.map((access, binding) => ({
      binding,
      visibility: 4,
      buffer: { type: access === "read" ? "read-only-storage" : "storage" },
    }));
    if (uniforms > 0) {
      entries.push({
        binding: spec.bindings.length,
        visibility: 4,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: Math.ceil(uniforms / 4) * 16 },
      });
    }
    const layout = this.#device.createBindGroupLayout({ entries, label: key });
    const module = this.#device.createShaderModule({ code: moduleText(spec), label: key });
    return {
      layout,
      descriptor: {
        label: key,
        layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      },
    };
  }

  #keep(key: string, spec: KernelSpec, layout: GPUBindGroupLayout, pipeline: GPUComputePipeline): Kernel {
    const kernel: Kernel = {
      key,
      pipeline,
      layout,
      storageBindings: spec.bindings.length,
      uniforms: Object.entries(spec.uniforms ?? {}),
      groups: new Map(),
    };
    this.specs.set(key, spec);
    this.#made.set(key, kernel);
    return kernel;
  }
}
