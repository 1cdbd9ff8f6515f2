/** One reporter beside a run: takes the log's entries as they come, waits for no one, and never stops the run. */
import { QloraError } from "../../core/errors.ts";
import type {
  Reporter,
  ReporterEntry,
  ReporterFile,
  ReporterPlugin,
  ReporterRun,
  ReporterStatus,
} from "../../core/plugin/reporter.ts";
import { type ContextOptions, reporterContext } from "./context.ts";
import type { Deliveries, Delivered } from "./deliveries.ts";
import type { Secrets } from "./secrets.ts";

/** Milliseconds after a failure until the next attempt; doubled each time. */
const COOLDOWN = 30_000;
const LONGEST_COOLDOWN = 600_000;

/** What a delivery needs. */
export interface DeliveryOptions {
  readonly plugin: ReporterPlugin;
  readonly run: Omit<ReporterRun, "before">;
  /** The run's log from its first entry on; it grows. */
  readonly entries: readonly ReporterEntry[];
  readonly deliveries: Deliveries;
  readonly context: Omit<ContextOptions, "name">;
  /** Told once. */
  readonly onFailure: (message: string) => void;
  readonly cooldown?: number | undefined;
}

/** Hands a run's log to one reporter. */
export class Delivery {
  readonly #options: DeliveryOptions;
  #secrets: Secrets | undefined;
  #closeFiles: (() => Promise<void>) | undefined;
  #reporter: Reporter | undefined;
  #delivered: Delivered;
  #cooldown: number;
  #notBefore = 0;
  #told = false;
  #failing = false;
  #pumping: Promise<void> | undefined;

  constructor(options: DeliveryOptions) {
    const { plugin, deliveries, entries, cooldown = COOLDOWN } = options;
    this.#options = options;
    this.#cooldown = cooldown;
    const before = deliveries.get(plugin.name);
    // Entries beyond the checkpoint that a run goes on from come again.
    this.#delivered = {
      state: before?.state,
      entries: Math.min(before?.entries ?? 0, entries.length),
      finished: false,
    };
  }

  /** True where everything that is there was taken. */
  get complete(): boolean {
    return !this.#failing && this.#delivered.entries === this.#options.entries.length;
  }

  /** Starts to hand over what is not taken yet; returns at once. */
  wake(): void {
    if (performance.now() < this.#notBefore) return;
    this.#pumping ??= this.#pump().finally(() => (this.#pumping = undefined));
  }

  /** Hands over the rest, the files of a run that has finished, and the end; tries once more where it failed before. */
  async conclude(status: ReporterStatus, files: readonly ReporterFile[]): Promise<void> {
    await this.#pumping;
    await this.#pump();
    if (this.complete && this.#reporter !== undefined) {
      const reporter = this.#reporter;
      await this.#attempt(async () => {
        for (const file of files) await reporter.artefact(file);
        await reporter.finish(status);
        await this.#note({ ...this.#delivered, finished: status === "finished" });
      });
    }
    await this.#attempt(async () => this.#closeFiles?.(), this.#failing);
  }

  async #pump(): Promise<void> {
    const { entries } = this.#options;
    await this.#attempt(async () => {
      const reporter = (this.#reporter ??= await this.#start());
      while (this.#delivered.entries < entries.length) {
        const at = this.#delivered.entries;
        const batch = entries.slice(at);
        await reporter.log(batch, at);
        await this.#note({ ...this.#delivered, entries: at + batch.length });
      }
    });
  }

  async #start(): Promise<Reporter> {
    const { plugin, run, context } = this.#options;
    await this.#closeFiles?.(); // of an attempt before
    const { context: given, secrets, closeFiles } = reporterContext({ ...context, name: plugin.name });
    this.#secrets = secrets;
    this.#closeFiles = closeFiles;
    const reporter = plugin.create(given);
    const state = await reporter.start({ ...run, before: this.#delivered.state });
    await this.#note({ ...this.#delivered, state });
    return reporter;
  }

  async #note(delivered: Delivered): Promise<void> {
    this.#delivered = delivered;
    await this.#options.deliveries.set(this.#options.plugin.name, delivered);
  }

  /** Runs `work`; a failure is noted, never thrown. */
  async #attempt(work: () => Promise<void>, failedBefore = false): Promise<void> {
    try {
      await work();
      this.#failing = failedBefore;
    } catch (error) {
      this.#failing = true;
      this.#notBefore = performance.now() + this.#cooldown;
      this.#cooldown = Math.min(LONGEST_COOLDOWN, 2 * this.#cooldown);
      if (this.#told) return;
      this.#told = true;
      this.#options.onFailure(this.#describe(error));
    }
  }

  /** The failure in one line, without secrets. */
  #describe(error: unknown): string {
    const { name } = this.#options.plugin;
    const message = error instanceof Error ? error.message : String(error);
    const hint = error instanceof QloraError && error.hint !== undefined ? `. ${error.hint}` : "";
    const named = message.startsWith(`reporter ${name}`) ? message : `reporter ${name}: ${message}`;
    return (this.#secrets?.strike(`${named}${hint}`) ?? `${named}${hint}`).replace(/\.$/, "");
  }
}
