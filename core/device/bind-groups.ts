import type { Kernel } from "./pipelines.ts";
import { byteSize, type Tensor, wholeWords } from "./tensor.ts";

/** Bytes of a kernel's uniforms as they are bound: whole vectors of 16 bytes. */
export function uniformBytes(kernel: Pick<Kernel, "uniforms">): number {
  return Math.ceil(kernel.uniforms.length / 4) * 16;
}

/**
 * Groups of a device at most. Batches of ever new sizes meet ever new sets of pooled buffers, and lavapipe maps memory for
 * each group, of which Linux allows a process 65,530. A step of 42 layers uses some thousand.
 */
const MAX_GROUPS = 16_384;

/**
 * Bind groups by kernel and buffers: making one costs ten times what a dispatch does, so each is made once, and all are
 * given up where they have become too many.
 */
export class BindGroups {
  readonly #device: GPUDevice;
  readonly #arena: GPUBuffer;
  readonly #ids = new WeakMap<GPUBuffer, number>();
  readonly #kernels = new Set<Kernel>();
  #count = 0;
  #nextId = 1;

  /** @param arena the buffer that uniforms lie in, bound with a dynamic offset */
  constructor(device: GPUDevice, arena: GPUBuffer) {
    this.#device = device;
    this.#arena = arena;
  }

  /** The group that binds `tensors` in order, and the uniforms after them. */
  get(kernel: Kernel, tensors: readonly Tensor[]): GPUBindGroup {
    let key = "";
    for (const tensor of tensors) {
      const id = this.#idOf(tensor.buffer);
      key += tensor.part === true ? `${id}+${tensor.offset}:${byteSize(tensor)},` : `${id},`;
    }
    const known = kernel.groups.get(key);
    if (known !== undefined) return known;
    if (this.#count >= MAX_GROUPS) this.clear();
    const entries: GPUBindGroupEntry[] = tensors.map((tensor, binding) => ({ binding, resource: this.#range(tensor) }));
    if (kernel.uniforms.length > 0) {
      entries.push({
        binding: tensors.length,
        resource: { buffer: this.#arena, offset: 0, size: uniformBytes(kernel) },
      });
    }
    const group = this.#device.createBindGroup({ layout: kernel.layout, entries });
    kernel.groups.set(key, group);
    this.#kernels.add(kernel);
    this.#count++;
    return group;
  }

  /** Gives all groups up; encoded work keeps those that it uses. */
  clear(): void {
    for (const { groups } of this.#kernels) {
      // bun-webgpu's stay for good unless they are told to go; the other binding leaves them to the garbage collector.
      for (const group of groups.values()) (group as { destroy?: () => void }).destroy?.();
      groups.clear();
    }
    this.#kernels.clear();
    this.#count = 0;
  }

  #idOf(buffer: GPUBuffer): number {
    const known = this.#ids.get(buffer);
    if (known !== undefined) return known;
    this.#ids.set(buffer, this.#nextId);
    return this.#nextId++;
  }

  /** A tensor that owns its buffer binds all of it, so that equal buffers give equal groups whatever N is. */
  #range(tensor: Tensor): GPUBufferBinding {
    const { buffer, offset } = tensor;
    if (tensor.part === true) return { buffer, offset, size: byteSize(tensor) };
    const most = wholeWords(this.#device.limits.maxStorageBufferBindingSize);
    return { buffer, offset: 0, size: Math.min(buffer.size, most) };
  }
}
