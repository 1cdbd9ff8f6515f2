import type { Checkpointing } from "../../core/compute/blocks.ts";
import { type BatchShape, LONG_SAMPLE } from "../../core/device/batch-shape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { StepLoss } from "../training/step.ts";
import type { MetaRun } from "./meta-run.ts";

type Specs = Gpu["kernelSpecs"];

/** What a forecast is made of. */
export interface ForecastOptions {
  readonly checkpointing: Checkpointing;
  readonly loss: StepLoss | undefined;
  /** The largest batch of the work. */
  readonly largest: BatchShape;
}

/**
 * Token counts that kernels tell apart: they choose by full and by begun tiles of so many rows, or of a multiple (tilings of
 * products, parts of long sums). Below one tile every count is its own class.
 */
const TILE_ROWS = 64;

/** Kernels by kind and size of batch; each size class runs on the meta device once, when it is first asked for. */
export class KernelForecast {
  readonly #run: MetaRun;
  readonly #options: ForecastOptions;
  readonly #known = new Map<string, Promise<Specs>>();
  /** One batch at a time: what a batch dispatches is told apart by the time at which it does. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(run: MetaRun, options: ForecastOptions) {
    this.#run = run;
    this.#options = options;
  }

  /** Kernels that are needed whatever the batches: of loading, of the update, and those that a small and the largest batch share. */
  async always(): Promise<Specs> {
    const { largest } = this.#options;
    const large = await this.of(largest);
    const small = await this.of({ ...largest, lengths: [Math.min(TILE_ROWS, ...largest.lengths)] });
    const update = await this.#alone(() => this.#run.update());
    return new Map([...this.#run.loading, ...update, ...[...large].filter(([key]) => small.has(key))]);
  }

  /** Kernels of a batch. @throws QloraError of every kind that running it would throw */
  of(batch: BatchShape): Promise<Specs> {
    const key = sizeKey(batch);
    const known = this.#known.get(key) ?? this.#alone(() => this.#take(batch));
    this.#known.set(key, known);
    return known;
  }

  #take({ lengths, training }: BatchShape): Promise<void> {
    const { checkpointing, loss } = this.#options;
    return training ? this.#run.gradients(lengths, checkpointing, loss) : this.#run.logits(lengths);
  }

  #alone(work: () => Promise<void> | void): Promise<Specs> {
    const { gpu } = this.#run;
    const taken = this.#last.then(async () => {
      gpu.takeDispatched();
      await work();
      return gpu.takeDispatched();
    });
    this.#last = taken.catch(() => {}); // the caller sees the rejection
    return taken;
  }
}

function sizeKey({ lengths, training }: BatchShape): string {
  const classOf = (rows: number): string =>
    rows < TILE_ROWS ? `${rows}` : `${Math.floor(rows / TILE_ROWS)}-${Math.ceil(rows / TILE_ROWS)}`;
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  // A last block may run for one row a sample; fewer than a tile of them are all alike.
  const samples = lengths.length < TILE_ROWS ? "few" : classOf(lengths.length);
  const span = lengths.some((length) => length > LONG_SAMPLE) ? "long" : "short";
  return `${training ? "training" : "forward"} ${classOf(tokens)} ${samples} ${span}`;
}
