import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import type { Clock } from "./clock.ts";
import { countPoison, fill } from "./data.ts";

/** One measured line. */
export interface Result {
  readonly section: string;
  readonly name: string;
  readonly tokens: number;
  readonly ms: number;
  /** TFLOP/s of the product, or GB/s of what must move. */
  readonly rate: number;
  readonly unit: "TFLOP/s" | "GB/s";
  /** Relative error against f32, where it was checked. */
  readonly error?: number | undefined;
  /** What is wrong, if anything. */
  readonly wrong?: string | undefined;
}

/** What is measured and how it is checked. */
export interface Job {
  readonly section: string;
  readonly name: string;
  readonly tokens: number;
  /** Floating-point operations of a launch; or bytes it must move. */
  readonly flops?: number;
  readonly bytes?: number;
  readonly launch: (i: number) => void;
  /** Relative error, after one launch over poisoned outputs. */
  readonly check?: () => Promise<number>;
  readonly limit?: number;
  /** f16 results, of which no element may stay poisoned, and what lies behind them, which must. */
  readonly outputs?: readonly { readonly written: Tensor; readonly behind?: Tensor }[];
}

/** Runs jobs; without a clock (validation only) each is launched once and nothing is measured. */
export class Session {
  readonly gpu: Gpu;
  readonly results: Result[] = [];
  readonly left: string[] = [];
  readonly #clock: Clock | undefined;
  readonly #deadline: number;

  constructor(gpu: Gpu, clock: Clock | undefined, seconds: number) {
    this.gpu = gpu;
    this.#clock = clock;
    this.#deadline = performance.now() + seconds * 1000;
  }

  async run(job: Job): Promise<Result | undefined> {
    if (this.#clock === undefined) {
      job.launch(0);
      return undefined;
    }
    if (performance.now() > this.#deadline) {
      this.left.push(`${job.section} ${job.name} ${job.tokens}`);
      return undefined;
    }
    for (const { written, behind } of job.outputs ?? []) {
      fill(this.gpu, written, "poison");
      if (behind !== undefined) fill(this.gpu, behind, "poison");
    }
    job.launch(0);
    const error = await job.check?.();
    const wrong = await this.#problem(job, error);
    const ms = await this.#clock.time(job.launch);
    const result: Result = {
      section: job.section,
      name: job.name,
      tokens: job.tokens,
      ms,
      rate: job.flops === undefined ? (job.bytes ?? 0) / ms / 1e6 : job.flops / ms / 1e9,
      unit: job.flops === undefined ? "GB/s" : "TFLOP/s",
      error,
      wrong,
    };
    this.results.push(result);
    return result;
  }

  async #problem(job: Job, error: number | undefined): Promise<string | undefined> {
    if (error !== undefined && !(error < (job.limit ?? 1e-3))) return `error ${error.toExponential(1)}`;
    for (const { written, behind } of job.outputs ?? []) {
      const missing = await countPoison(this.gpu, written);
      if (missing > 0) return `${missing} words not written`;
      if (behind === undefined) continue;
      const kept = await countPoison(this.gpu, behind);
      const words = behind.shape.reduce((a, b) => a * b, 1) / 2;
      if (kept !== words) return `${words - kept} words written past the end`;
    }
    return undefined;
  }

  /** Frees what a job used. */
  async drop(...tensors: readonly Tensor[]): Promise<void> {
    if (this.#clock !== undefined) await this.gpu.idle();
    for (const tensor of tensors) this.gpu.free(tensor);
    this.gpu.memory.trim();
  }
}
