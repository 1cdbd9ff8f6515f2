import { DeviceError } from "../errors.ts";
import { nextTask } from "../util/next-task.ts";
import { BindGroups } from "./bind-groups.ts";
import { compileFailure, deviceFailure, reportOf } from "./failure.ts";
import type { KernelOptions, KernelSpec } from "./kernel.ts";
import { Memory, type Purpose } from "./memory.ts";
import { type CompileOptions, type Kernel, Kernels } from "./pipelines.ts";
import type { GpuInfo, Tier } from "./probe.ts";
import { Profile, type ProfileLine, type KernelCost } from "./profile.ts";
import { byteSize, bytesPerElement, describe, type DType, elementCount, type Tensor, wholeWords } from "./tensor.ts";

const UNIFORM = 0x40 | 0x8;
const READBACK = 0x1 | 0x8;
const MAP_READ = 0x1;
const ARENA_BYTES = 256 * 1024;
/** Dispatches of one submit at most. */
const SUBMIT_EVERY = 64;
const NAN_BYTES = 1 << 20;

/**
 * One open device: memory, kernels, and the queue. Work is encoded into one compute pass until something else is asked
 * for (a copy, a read, `submit`); uniforms lie in an arena that one write uploads before each submit.
 */
export class Gpu {
  readonly device: GPUDevice;
  readonly info: GpuInfo;
  readonly memory: Memory;
  /** Operand type of this tier: `f16` in tiers f16 and matrix, `f32` in tier f32. */
  readonly computeDtype: "f16" | "f32";
  /** Fill every fresh tensor with NaN bits, so that an element nobody wrote shows. For tests. */
  poison = false;
  /** True for a GPU that only counts bytes: what is written to it is never looked at. */
  readonly isMeta: boolean;

  readonly #kernels: Kernels;
  readonly #groups: BindGroups;
  readonly #dispatched = new Set<string>();
  readonly #arena: GPUBuffer;
  readonly #arenaData = new ArrayBuffer(ARENA_BYTES);
  readonly #arenaView = new DataView(this.#arenaData);
  readonly #align: number;
  readonly #errors: string[] = [];
  #arenaUsed = 0;
  #encoded = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #current: Kernel | undefined;
  #lost: string | undefined;
  #profile: Profile | undefined;
  #nan: GPUBuffer | undefined;

  constructor(device: GPUDevice, info: GpuInfo, { isMeta = false } = {}) {
    this.device = device;
    this.isMeta = isMeta;
    this.info = info;
    this.computeDtype = info.tier === "f32" ? "f32" : "f16";
    this.memory = new Memory(device, (all) => {
      this.submit();
      if (all) this.#groups.clear();
    });
    this.#align = Math.max(16, device.limits.minUniformBufferOffsetAlignment);
    this.#arena = device.createBuffer({ size: ARENA_BYTES, usage: UNIFORM, label: "uniforms" });
    this.#groups = new BindGroups(device, this.#arena);
    // bun-webgpu's callbacks and garbage collection do not get along: with it, each is compiled at once.
    this.#kernels = new Kernels(device, info.provider !== "bun-webgpu");
    device.addEventListener("uncapturederror", (event) => {
      this.#errors.push(reportOf(event.error));
    });
    void device.lost.then((lost) => {
      this.#lost = `${lost.reason}: ${lost.message}`;
    });
  }

  get tier(): Tier {
    return this.info.tier;
  }

  /** A tensor with undefined contents (NaN where `poison` is set). Free it with `free`. */
  alloc(shape: readonly number[], dtype: DType, label: string, purpose: Purpose = "activations"): Tensor {
    const bytes = Math.max(4, byteSize({ shape, dtype }));
    if (bytes > this.device.limits.maxStorageBufferBindingSize) {
      throw new DeviceError(
        "BINDING_TOO_LARGE",
        `${label} [${shape.join(",")}] ${dtype} takes ${bytes} bytes; one binding of this adapter holds ${this.device.limits.maxStorageBufferBindingSize}`,
        { hint: "Lower the token budget, or use a device with larger bindings." },
      );
    }
    const tensor: Tensor = { buffer: this.memory.alloc(bytes, purpose, label), offset: 0, shape, dtype, label };
    if (this.poison) this.#fillWithNaN(tensor, bytes);
    return tensor;
  }

  /** A tensor holding `data`. */
  upload(
    data: ArrayBufferView,
    shape: readonly number[],
    dtype: DType,
    label: string,
    purpose: Purpose = "data",
  ): Tensor {
    if (data.byteLength !== elementCount(shape) * bytesPerElement(dtype)) {
      throw new RangeError(`${label}: ${data.byteLength} bytes do not fill [${shape.join(",")}] ${dtype}`);
    }
    const tensor = this.alloc(shape, dtype, label, purpose);
    this.write(tensor, data);
    return tensor;
  }

  /** Gives the tensor's memory back; work already encoded may still use it. */
  free(tensor: Tensor): void {
    this.memory.free(tensor.buffer);
  }

  /** Overwrites a tensor (from its byte `at`) with `data`, in order with the work around it. */
  write(tensor: Tensor, data: ArrayBufferView, at = 0): void {
    this.#flushPass();
    const whole = wholeWords(data.byteLength);
    // Buffers written here may already be used by encoded work: submit that first, to keep the order.
    if (this.#encoder !== undefined) this.submit();
    if (whole > 0)
      this.device.queue.writeBuffer(tensor.buffer, tensor.offset + at, data.buffer, data.byteOffset, whole);
    if (whole < data.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
      this.device.queue.writeBuffer(tensor.buffer, tensor.offset + at + whole, tail);
    }
  }

  /** Copies the first `bytes` of a buffer that was mapped to `to`, from its byte `at` on, and submits that. */
  copyStaged(from: GPUBuffer, to: Tensor, at: number, bytes: number): void {
    this.#flushPass();
    this.#encode().copyBufferToBuffer(from, 0, to.buffer, to.offset + at, bytes);
    this.submit();
  }

  /** Sets every byte of a tensor to zero. */
  clear(tensor: Tensor): void {
    this.#flushPass();
    this.#encode().clearBuffer(tensor.buffer, tensor.offset, byteSize(tensor));
  }

  /** Copies all of `from` to `to`, which has the same size in bytes. */
  copy(from: Tensor, to: Tensor): void {
    if (byteSize(from) !== byteSize(to)) throw new RangeError(`cannot copy ${describe(from)} to ${describe(to)}`);
    this.#flushPass();
    this.#encode().copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, byteSize(from));
  }

  /** Copies all of `from` into `to`, from byte `at` of it on. */
  copyInto(from: Tensor, to: Tensor, at: number): void {
    if (at + byteSize(from) > byteSize(to))
      throw new RangeError(`${describe(from)} does not fit ${describe(to)} at byte ${at}`);
    this.#flushPass();
    this.#encode().copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset + at, byteSize(from));
  }

  /**
   * The kernel of this key, compiled on first use. The key begins with the plugin's name and names all that `make` depends
   * on (dtypes, constants).
   * @throws DeviceError with the compiler's messages, or naming both where the key is of a kernel that differs
   */
  kernel(key: string, make: () => KernelSpec, options?: KernelOptions): Kernel {
    return this.#kernels.get(key, make, options);
  }

  /** What every kernel so far was made of, by key. */
  get kernelSpecs(): ReadonlyMap<string, KernelSpec> {
    return this.#kernels.specs;
  }

  /** What the kernels dispatched since the last call are made of; for a meta GPU. */
  takeDispatched(): ReadonlyMap<string, KernelSpec> {
    const keys = [...this.#dispatched];
    this.#dispatched.clear();
    return new Map(keys.map((key) => [key, this.#kernels.specs.get(key)!]));
  }

  /**
   * Compiles kernels up front, those of a meta GPU: while weights load and steps run, the driver's threads are free. One
   * that is under way already is waited for, not compiled again.
   * @throws DeviceError with the compiler's messages, or saying that the device was lost or its memory refused
   */
  async compile(specs: ReadonlyMap<string, KernelSpec>, options: CompileOptions = {}): Promise<void> {
    await this.#kernels.compile(specs, options).catch(async (cause: unknown) => {
      if (cause instanceof DeviceError) throw cause;
      await nextTask(); // device loss arrives as a separate event, perhaps after what it breaks
      throw compileFailure(cause, this.#errors, this.#lost, this.memory.report());
    });
    if (options.later !== true) this.check();
  }

  /** Gives up kernels that wait to be compiled; resolves when none is under way. */
  stopCompiling(): Promise<void> {
    return this.#kernels.cancelPending();
  }

  /**
   * Encodes one dispatch.
   * @param tensors the storage bindings, in order
   * @param uniforms a value for every uniform of the kernel
   * @param grid workgroups in x, y, z
   * @param work for the profile's rates, where it is more than to read and write the tensors once
   */
  dispatch(
    kernel: Kernel,
    tensors: readonly Tensor[],
    uniforms: Readonly<Record<string, number>>,
    grid: readonly [number, number, number],
    work: KernelCost = {},
  ): void {
    if (tensors.length !== kernel.storageBindings) {
      throw new RangeError(
        `kernel ${kernel.key} has ${kernel.storageBindings} storage bindings, got ${tensors.length}`,
      );
    }
    if (grid.some((n) => !(n >= 1 && n <= 65535)))
      throw new RangeError(`kernel ${kernel.key}: grid ${grid.join(" x ")} is outside 1..65535`);
    if (this.isMeta) {
      this.#dispatched.add(kernel.key);
      return;
    }
    const bytes = Math.ceil((Math.ceil(kernel.uniforms.length / 4) * 16) / this.#align) * this.#align;
    if (this.#arenaUsed + bytes > ARENA_BYTES) this.submit();
    const at = this.#arenaUsed;
    this.#arenaUsed += bytes;
    kernel.uniforms.forEach(([name, type], i) => {
      const value = uniforms[name];
      if (value === undefined) throw new RangeError(`kernel ${kernel.key}: no value for uniform ${name}`);
      if (type === "f32") this.#arenaView.setFloat32(at + i * 4, value, true);
      else if (type === "u32") this.#arenaView.setUint32(at + i * 4, value, true);
      else this.#arenaView.setInt32(at + i * 4, value, true);
    });
    const group = this.#groups.get(kernel, tensors);
    if (this.#profile !== undefined) {
      const moved = { bytes: tensors.reduce((sum, tensor) => sum + byteSize(tensor), 0) };
      this.#profile.begin(kernel.key, { ...moved, ...work }, (writes) => this.#openPass(writes));
    }
    const pass = this.#pass ?? this.#openPass();
    if (this.#current !== kernel) pass.setPipeline(kernel.pipeline);
    this.#current = kernel;
    if (kernel.uniforms.length > 0) pass.setBindGroup(0, group, [at]);
    else pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid);
    // The GPU works while the rest is being encoded.
    if (++this.#encoded >= SUBMIT_EVERY) this.submit();
    if (this.#profile !== undefined) {
      this.#flushPass();
      if (this.#profile.full) this.submit();
    }
  }

  /** Hands the encoded work to the queue. */
  submit(): void {
    this.#flushPass();
    if (this.#encoder === undefined) return;
    if (this.#arenaUsed > 0) this.device.queue.writeBuffer(this.#arena, 0, this.#arenaData, 0, this.#arenaUsed);
    this.#profile?.resolve(this.#encoder);
    const commands = this.#encoder.finish();
    this.device.queue.submit([commands]);
    this.#profile?.submitted();
    this.#encoder = undefined;
    this.#arenaUsed = 0;
    this.#encoded = 0;
  }

  /**
   * Submits and waits until the queue is empty.
   * @throws DeviceError if the device reported an error or was lost
   */
  async idle(): Promise<void> {
    this.submit();
    await this.memory.settle(this.device.queue.onSubmittedWorkDone());
    this.check();
  }

  /**
   * The bytes of a tensor, after all work encoded so far.
   * @throws DeviceError if the device reported an error or was lost
   */
  async readBytes(tensor: Tensor): Promise<Uint8Array<ArrayBuffer>> {
    const size = byteSize(tensor);
    const staging = this.device.createBuffer({ size, usage: READBACK, label: `read ${tensor.label}` });
    this.#flushPass();
    this.#encode().copyBufferToBuffer(tensor.buffer, tensor.offset, staging, 0, size);
    this.submit();
    await this.memory.settle(this.map(staging, MAP_READ));
    const bytes = new Uint8Array(
      staging.getMappedRange().slice(0, elementCount(tensor.shape) * bytesPerElement(tensor.dtype)),
    );
    staging.unmap();
    staging.destroy();
    this.check();
    return bytes;
  }

  /** Maps a buffer once the GPU is done with it. @throws DeviceError if the device reported an error or was lost */
  async map(buffer: GPUBuffer, mode: number): Promise<void> {
    await buffer.mapAsync(mode).catch((error: unknown) => this.#explain(error));
  }

  /** A tensor's elements as f32 (f16 widened). @throws RangeError for other dtypes */
  async readFloats(tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    const bytes = await this.readBytes(tensor);
    if (tensor.dtype === "f32") return new Float32Array(bytes.buffer);
    if (tensor.dtype === "f16") return Float32Array.from(new Float16Array(bytes.buffer));
    throw new RangeError(`tensor ${describe(tensor)} does not hold f32 or f16`);
  }

  /** @throws DeviceError for errors the device has reported since the last check, and for a lost device */
  check(): void {
    const failure = deviceFailure(this.#errors.splice(0), this.#lost, this.memory.report());
    if (failure !== undefined) throw failure;
  }

  /** Records the GPU time of every dispatch until `profileEnd`. Needs the feature timestamp-query. */
  profileStart(): void {
    this.submit();
    this.#profile = new Profile(this.device);
  }

  /**
   * Times by kernel since `profileStart`, longest first.
   * @throws DeviceError if the device reported an error or was lost
   */
  async profileEnd(): Promise<ProfileLine[]> {
    this.submit();
    const profile = this.#profile;
    if (profile === undefined) throw new RangeError("profileEnd without profileStart");
    this.#profile = undefined;
    return profile.collect().catch((error: unknown) => this.#explain(error));
  }

  /** Frees everything; work that was encoded and not submitted is dropped. The object is dead afterwards. */
  destroy(): void {
    this.#kernels.close();
    // Giving up the pool submits what is encoded, and that may use tensors that are gone by then.
    this.#pass = this.#encoder = undefined;
    this.#groups.clear();
    this.memory.destroy();
    this.#arena.destroy();
    this.#nan?.destroy();
    this.device.destroy();
  }

  /** Throws why a buffer could not be read: what the device says, where it says anything. */
  async #explain(error: unknown): Promise<never> {
    await nextTask(); // device loss arrives as a separate event, perhaps after what it breaks
    this.check();
    throw error;
  }

  /** Copies, so that it takes its place among the work encoded so far. */
  #fillWithNaN(tensor: Tensor, bytes: number): void {
    this.#flushPass();
    this.#nan ??= this.#makeNaN();
    for (let at = 0; at < bytes; at += NAN_BYTES) {
      this.#encode().copyBufferToBuffer(this.#nan, 0, tensor.buffer, at, Math.min(NAN_BYTES, bytes - at));
    }
  }

  #makeNaN(): GPUBuffer {
    const buffer = this.device.createBuffer({ size: NAN_BYTES, usage: 0x4 | 0x8, label: "NaN" });
    this.device.queue.writeBuffer(buffer, 0, new Uint8Array(NAN_BYTES).fill(0xff));
    return buffer;
  }

  #encode(): GPUCommandEncoder {
    return (this.#encoder ??= this.device.createCommandEncoder());
  }

  #openPass(timestampWrites?: GPUComputePassTimestampWrites): GPUComputePassEncoder {
    this.#flushPass();
    this.#pass = this.#encode().beginComputePass(timestampWrites === undefined ? undefined : { timestampWrites });
    return this.#pass;
  }

  #flushPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#current = undefined;
  }
}
