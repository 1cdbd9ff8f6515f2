import type { Gpu } from "./gpu.ts";

/** Bytes on their way before a caller waits. */
const FLUSH_BYTES = 64 * 2 ** 20;

/** Keeps uploads from running ahead of the GPU: the driver holds a copy of each on the host until it is done. */
export class UploadPace {
  readonly #gpu: Gpu;
  readonly #limit: number;
  #unflushed = 0;

  constructor(gpu: Gpu, limit: number = FLUSH_BYTES) {
    this.#gpu = gpu;
    this.#limit = limit;
  }

  /** Counts bytes that were uploaded, and waits where too many are on their way. @throws DeviceError as `Gpu.idle` */
  async add(bytes: number): Promise<void> {
    this.#unflushed += bytes;
    if (this.#unflushed < this.#limit) return;
    await this.#gpu.idle();
    this.#unflushed = 0;
  }
}
