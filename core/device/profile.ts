/** Time of one kernel in a profile. */
export interface ProfileLine {
  readonly key: string;
  readonly calls: number;
  /** GPU time in milliseconds. */
  readonly ms: number;
  /** Floating-point operations that the launchers asked for; 0 for kernels that only move data. */
  readonly flops: number;
  /** Bytes of the tensors they named, each counted once a dispatch. */
  readonly bytes: number;
}

/** What a dispatch has to do at least, for the profile. */
export interface KernelCost {
  /** Multiplications and additions of its products; default 0. */
  readonly flops?: number;
  /** Read and written, each once; default the size of all tensors it binds. */
  readonly bytes?: number;
}

const READBACK = 0x1 | 0x8; // MAP_READ | COPY_DST
const QUERIES = 1024;

/** Timestamps around every dispatch, resolved at each submit. */
export class Profile {
  readonly #device: GPUDevice;
  readonly #set: GPUQuerySet;
  readonly #buffer: GPUBuffer;
  readonly #pending: Promise<void>[] = [];
  readonly #totals = new Map<string, ProfileLine>();
  #open: { readonly key: string; readonly work: KernelCost }[] = [];
  #staging: GPUBuffer | undefined;

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#set = device.createQuerySet({ type: "timestamp", count: QUERIES });
    this.#buffer = device.createBuffer({ size: QUERIES * 8, usage: 0x200 | 0x4 });
  }

  get full(): boolean {
    return this.#open.length * 2 >= QUERIES;
  }

  begin(key: string, work: KernelCost, open: (writes: GPUComputePassTimestampWrites) => void): void {
    const at = this.#open.length * 2;
    this.#open.push({ key, work });
    open({ querySet: this.#set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 });
  }

  resolve(encoder: GPUCommandEncoder): void {
    if (this.#open.length === 0) return;
    const bytes = this.#open.length * 16;
    encoder.resolveQuerySet(this.#set, 0, this.#open.length * 2, this.#buffer, 0);
    this.#staging = this.#device.createBuffer({ size: bytes, usage: READBACK });
    encoder.copyBufferToBuffer(this.#buffer, 0, this.#staging, 0, bytes);
  }

  submitted(): void {
    const [staging, open] = [this.#staging, this.#open];
    this.#open = [];
    this.#staging = undefined;
    if (staging === undefined) return;
    const read = staging
      .mapAsync(1)
      .then(() => {
        const times = new BigUint64Array(staging.getMappedRange().slice(0));
        open.forEach(({ key, work }, i) => this.#add(key, work, Number(times[2 * i + 1]! - times[2 * i]!) / 1e6));
      })
      .finally(() => staging.destroy());
    read.catch(() => {}); // `collect` throws it: a device lost before then must not end the process
    this.#pending.push(read);
  }

  #add(key: string, { flops = 0, bytes = 0 }: KernelCost, ms: number): void {
    const line = this.#totals.get(key) ?? { calls: 0, ms: 0, flops: 0, bytes: 0 };
    this.#totals.set(key, {
      key,
      calls: line.calls + 1,
      ms: line.ms + ms,
      flops: line.flops + flops,
      bytes: line.bytes + bytes,
    });
  }

  /** @throws what kept a time from being read: a lost device */
  async collect(): Promise<ProfileLine[]> {
    try {
      await Promise.all(this.#pending);
    } finally {
      this.#set.destroy();
      this.#buffer.destroy();
    }
    return [...this.#totals.values()].sort((a, b) => b.ms - a.ms);
  }
}
