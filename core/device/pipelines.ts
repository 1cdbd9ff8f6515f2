/** The kernels of a device: compiled when they are first asked for, or up front, all those that a plan has met. */
import { DeviceError } from "../errors.ts";
import { nextTask } from "../util/next-task.ts";
import { type KernelOptions, type KernelSpec, moduleText, type UniformType } from "./kernel.ts";
import { kernelSite, keyClash, specDifference } from "./kernel-clash.ts";

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

/** A kernel that is asked for and not compiled yet. */
interface Coming {
  readonly key: string;
  readonly spec: KernelSpec;
  readonly done: PromiseWithResolvers<void>;
}

/** How kernels are compiled up front. */
export interface CompileOptions {
  /** After all that others wait for; default: before it. */
  readonly later?: boolean;
  /** Kernels compiled, and in total; first with 0, and never where all are there. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Most pipelines under way at once: drivers have a lock or a few threads for them, and each that waits in there cannot be overtaken. */
const MAX_CONCURRENT = 8;

function givenUp(key: string): DeviceError {
  return new DeviceError("COMPILE_GIVEN_UP", `kernel ${key} was not compiled: its work was given up before`);
}

/** A device's kernels by key. */
export class Kernels {
  /** What each kernel was made of. */
  readonly specs = new Map<string, KernelSpec>();
  readonly #device: GPUDevice;
  readonly #background: boolean;
  readonly #lanes: number;
  readonly #made = new Map<string, Kernel>();
  /** Who asked for each first, for the message of a clash. */
  readonly #sites = new Map<string, string | undefined>();
  /** Waiting or under way; those that failed stay, so that all who need one are told. */
  readonly #coming = new Map<string, Coming>();
  #waiting: Coming[] = [];
  #underWay = 0;
  #closed = false;

  /** @param background whether the driver compiles in threads of its own; otherwise kernels compile one after the other, with room for other work between them */
  constructor(device: GPUDevice, background: boolean) {
    this.#device = device;
    this.#background = background;
    this.#lanes = background ? Math.max(1, Math.min(MAX_CONCURRENT, navigator.hardwareConcurrency - 1)) : 1;
  }

  /** The kernel of this key, compiled on first use. @throws DeviceError where the key is of a kernel that differs */
  get(key: string, make: () => KernelSpec, { compare = true }: KernelOptions = {}): Kernel {
    const known = this.#made.get(key);
    if (!this.#sites.has(key)) this.#sites.set(key, kernelSite());
    if (known !== undefined) {
      if (compare) this.#requireSame(key, make());
      return known;
    }
    const spec = make();
    const { layout, descriptor } = this.#describe(key, spec);
    return this.#keep(key, spec, layout, this.#device.createComputePipeline(descriptor));
  }

  #requireSame(key: string, spec: KernelSpec): void {
    const difference = specDifference(this.specs.get(key)!, spec);
    if (difference !== undefined) throw keyClash(key, difference, this.#sites.get(key), kernelSite());
  }

  /** Compiles those that are missing; one that is under way already is waited for. */
  async compile(
    specs: ReadonlyMap<string, KernelSpec>,
    { later = false, onProgress }: CompileOptions = {},
  ): Promise<void> {
    const missing = [...specs].filter(([key]) => !this.#made.has(key));
    if (missing.length === 0) return;
    if (this.#closed) throw givenUp(missing[0]![0]);
    const wanted = new Set(missing.map(([key, spec]) => this.#coming.get(key) ?? this.#ask(key, spec)));
    if (!later) {
      const first = this.#waiting.filter((coming) => wanted.has(coming));
      this.#waiting = [...first, ...this.#waiting.filter((coming) => !wanted.has(coming))];
    }
    let done = 0;
    onProgress?.(done, wanted.size);
    const all = Promise.all(
      [...wanted].map((coming) => coming.done.promise.then(() => onProgress?.(++done, wanted.size))),
    );
    this.#start();
    await all;
  }

  /** Gives up what waits to be compiled, and waits for what is under way, whatever becomes of it. */
  async cancelPending(): Promise<void> {
    for (const { key, done } of this.#waiting.splice(0)) {
      this.#coming.delete(key);
      done.reject(givenUp(key));
    }
    await Promise.allSettled([...this.#coming.values()].map(({ done }) => done.promise));
  }

  /** Before the device goes: gives up what waits, and takes nothing more. */
  close(): void {
    this.#closed = true;
    void this.cancelPending();
  }

  #ask(key: string, spec: KernelSpec): Coming {
    const coming: Coming = { key, spec, done: Promise.withResolvers() };
    this.#coming.set(key, coming);
    this.#waiting.push(coming);
    return coming;
  }

  #start(): void {
    while (this.#underWay < this.#lanes && this.#waiting.length > 0) void this.#run(this.#waiting.shift()!);
  }

  async #run({ key, spec, done }: Coming): Promise<void> {
    this.#underWay++;
    try {
      // Whoever could not wait may have compiled it meanwhile.
      if (!this.#made.has(key)) {
        const { layout, descriptor } = this.#describe(key, spec);
        const pipeline = this.#background
          ? await this.#device.createComputePipelineAsync(descriptor)
          : this.#device.createComputePipeline(descriptor);
        if (!this.#made.has(key)) this.#keep(key, spec, layout, pipeline);
      }
      this.#coming.delete(key);
      done.resolve();
    } catch (error) {
      done.reject(error);
    }
    if (!this.#background) await nextTask();
    this.#underWay--;
    this.#start();
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
