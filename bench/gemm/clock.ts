import type { Gpu } from "../../core/device/gpu.ts";

const BATCHES = 5;
const WANTED_MS = 8;
/** A card that idled needs this long to come up to its clock. */
const WARM_MS = 150;

/**
 * Times launches with timestamps of the GPU: each batch lies between two stamps taken when all earlier work has ended,
 * and all batches are queued at once, so that neither the host nor an idle clock is part of the figure.
 */
export class Clock {
  readonly #gpu: Gpu;
  readonly #set: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #nop: GPUComputePipeline;

  constructor(gpu: Gpu) {
    const { device } = gpu;
    this.#gpu = gpu;
    this.#set = device.createQuerySet({ type: "timestamp", count: 2 * BATCHES });
    this.#resolved = device.createBuffer({ size: 16 * BATCHES, usage: 0x200 | 0x4 });
    this.#staging = device.createBuffer({ size: 16 * BATCHES, usage: 0x1 | 0x8 });
    const module = device.createShaderModule({ code: "@compute @workgroup_size(1) fn main() {}" });
    this.#nop = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  }

  #stamp(slot: number): void {
    this.#gpu.submit();
    const encoder = this.#gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass({ timestampWrites: { querySet: this.#set, endOfPassWriteIndex: slot } });
    pass.setPipeline(this.#nop);
    pass.dispatchWorkgroups(1);
    pass.end();
    this.#gpu.device.queue.submit([encoder.finish()]);
  }

  async #batches(batches: number, launches: number, launch: (i: number) => void): Promise<number[]> {
    for (let b = 0; b < batches; b++) {
      this.#stamp(2 * b);
      for (let i = 0; i < launches; i++) launch(i);
      this.#stamp(2 * b + 1);
    }
    const encoder = this.#gpu.device.createCommandEncoder();
    encoder.resolveQuerySet(this.#set, 0, 2 * batches, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 16 * batches);
    this.#gpu.device.queue.submit([encoder.finish()]);
    await this.#staging.mapAsync(1);
    const stamps = new BigUint64Array(this.#staging.getMappedRange().slice(0, 16 * batches));
    this.#staging.unmap();
    this.#gpu.check();
    return Array.from({ length: batches }, (_, b) => Number(stamps[2 * b + 1]! - stamps[2 * b]!) / 1e6 / launches);
  }

  /** Median milliseconds of one launch. */
  async time(launch: (i: number) => void): Promise<number> {
    launch(0);
    const warm = performance.now() + WARM_MS;
    while (performance.now() < warm) await this.#batches(1, 16, launch);
    const [one = 1] = await this.#batches(1, 1, launch);
    const launches = Math.max(2, Math.min(200, Math.round(WANTED_MS / Math.max(one, 0.005))));
    const times = await this.#batches(BATCHES, launches, launch);
    return times.toSorted((a, b) => a - b)[Math.floor(BATCHES / 2)]!;
  }
}
