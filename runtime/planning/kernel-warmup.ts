import type { BatchShape } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { RunListener } from "../events.ts";
import { nextTurn } from "../host.ts";
import type { Warmup } from "../session/session.ts";
import type { KernelForecast } from "./forecast.ts";

/** Batches of a run in the order in which they will come, as many together as may be waited for at once. */
export type BatchShapes = AsyncIterable<readonly BatchShape[]>;

/** Which kernels batches dispatch. */
type Forecast = Pick<KernelForecast, "always" | "of">;

/** Compiles what a run will dispatch, in the order in which it will; hold it with `await using` or end it with `stop`. */
export class KernelWarmup implements Warmup, AsyncDisposable {
  readonly #gpu: Gpu;
  readonly #forecast: Forecast;
  readonly #upcoming: AsyncIterator<readonly BatchShape[]>;
  readonly #onEvent: RunListener | undefined;
  /** Asked for; a size class comes up again and again. */
  readonly #asked = new Set<Gpu["kernelSpecs"]>();
  readonly #compiling: Promise<void>[] = [];
  #following: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #stopped = false;

  constructor(
    { gpu, forecast }: { readonly gpu: Gpu; readonly forecast: Forecast },
    upcoming: BatchShapes,
    onEvent?: RunListener,
  ) {
    this.#gpu = gpu;
    this.#forecast = forecast;
    this.#upcoming = upcoming[Symbol.asyncIterator]();
    this.#onEvent = onEvent;
  }

  /**
   * Compiles what the first batches need.
   * @throws DeviceError as `Gpu.compile`; what running the batches would throw, or making them did
   */
  async compileFirst(onProgress: (done: number, total: number) => void): Promise<void> {
    const always = await this.#forecast.always();
    const begun = this.#gpu.compile(always); // rows may still be on their way
    begun.catch(() => {}); // awaited below, with the rest
    const wanted = new Map(always);
    const { value: batches = [] } = await this.#upcoming.next();
    for (const batch of batches as readonly BatchShape[]) {
      for (const [key, spec] of await this.#forecast.of(batch)) wanted.set(key, spec);
      await nextTurn();
    }
    await Promise.all([begun, this.#gpu.compile(wanted, { onProgress })]);
  }

  /** Goes on with the batches after the first ones, in the background. */
  continue(): void {
    this.#following = this.#follow();
  }

  /**
   * Before a batch: compiles what it needs and waits for it, where that is not done.
   * @throws as `first`; also where a later batch's kernel did not compile
   */
  async prepare(batch: BatchShape): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const specs = await this.#forecast.of(batch);
    await this.#gpu.compile(specs, {
      onProgress: (done, total) => this.#onEvent?.({ type: "progress", what: "compiling kernels", done, total }),
    });
  }

  /** Resolves when everything that is known to come is compiled. @throws DeviceError as `Gpu.compile` */
  async done(): Promise<void> {
    await this.#following;
    await Promise.all(this.#compiling);
  }

  /** Compiles nothing more. */
  stop(): void {
    this.#stopped = true;
    void this.#gpu.stopCompiling();
  }

  /** Stops, and waits for what the driver has under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#gpu.stopCompiling();
  }

  async #follow(): Promise<void> {
    try {
      while (!this.#stopped) {
        const { value, done } = await this.#upcoming.next();
        if (done === true) return;
        for (const batch of value) {
          await nextTurn(); // steps go first
          const specs = await this.#forecast.of(batch);
          if (this.#stopped) return;
          if (!this.#asked.has(specs)) this.#compileLater(specs);
        }
      }
    } catch {
      // A batch that cannot be made or run is told by the step that needs it, which meets the same error.
    }
  }

  #compileLater(specs: Gpu["kernelSpecs"]): void {
    this.#asked.add(specs);
    const compiled = this.#gpu.compile(specs, { later: true });
    compiled.catch((error: unknown) => (this.#failure ??= { error }));
    this.#compiling.push(compiled);
  }
}
