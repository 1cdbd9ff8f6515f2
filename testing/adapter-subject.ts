/** The adapter that a contract is held against, on its model. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Gpu } from "../core/device/gpu.ts";
import { defineRequest } from "../core/options/request.ts";
import type { Adapter, AdapterPlugin } from "../core/plugin/adapter.ts";
import type { ModelLoader, ModelSpec } from "../core/plugin/model.ts";
import { writeFiles } from "../runtime/files/folder.ts";
import { adapterValues } from "../runtime/session/adapter-values.ts";
import { ModelBench, type NamedValues, randomSamples } from "./model-bench.ts";
import { toyModel } from "./toy-model.ts";

/** What the adapter contract is held with. */
export interface AdapterContractOptions {
  /** Model to adapt. Default `toyModel()`, which has the linears of a Llama or Gemma-2. */
  readonly model?: ModelLoader;
  /** Elements that train on that model, the head not counted, where you know the number. */
  readonly trainable?: number;
  /** False for an adapter that changes the model's output before any training. Default true. */
  readonly identityAtStart?: boolean;
  /** False where the gradient leaves a term out on purpose, as DoRA's does of the norm. Default true. */
  readonly exactGradients?: boolean;
  /** Tokens of the samples. Default 5, 1, 17 and 3. */
  readonly lengths?: readonly number[];
  readonly seed?: number;
}

export const checkOptions = defineRequest<AdapterContractOptions>("adapterContract", {
  model: "object?",
  trainable: "number?",
  identityAtStart: "boolean?",
  exactGradients: "boolean?",
  lengths: "number[]?",
  seed: "number?",
});

/** How far sums in another order may differ, relative, by operand type. */
const TOLERANCE = { f32: 1e-5, f16: 4e-3 } as const;
const CLASSES = 3;

export const show = (shape: readonly number[]): string => `[${shape.join(",")}]`;

/** The adapter under test on its model. */
export class Subject {
  readonly gpu: Gpu;
  readonly plugin: AdapterPlugin;
  readonly source: ModelLoader;
  readonly options: AdapterContractOptions;
  readonly seed: number;

  constructor(gpu: Gpu, plugin: AdapterPlugin, options: AdapterContractOptions) {
    this.gpu = gpu;
    this.plugin = plugin;
    this.options = options;
    this.source = options.model ?? toyModel();
    this.seed = options.seed ?? 1;
  }

  get tolerance(): number {
    return TOLERANCE[this.gpu.computeDtype];
  }

  outline(): Promise<ModelSpec> {
    return this.source.outline(CLASSES);
  }

  async adapter(seed = this.seed, plugin = this.plugin): Promise<Adapter> {
    const { linears, head } = await this.outline();
    return plugin.create({ linears, head, baseModel: this.source.checkpoint, seed });
  }

  async samples(): Promise<ReturnType<typeof randomSamples>> {
    const { vocabSize } = await this.outline();
    return randomSamples(this.options.lengths ?? [5, 1, 17, 3], vocabSize, { numLabels: CLASSES, seed: this.seed });
  }

  /** Runs `body` on a session of its own. */
  async with<T>(body: (bench: ModelBench) => Promise<T>, plugin = this.plugin, initAdapter?: string): Promise<T> {
    using bench = await ModelBench.open(this.gpu, this.source, plugin, {
      numLabels: CLASSES,
      seed: this.seed,
      initAdapter,
    });
    return await body(bench);
  }

  /** Runs `body` with a folder that holds the adapter with moved values. */
  async saved<T>(body: (directory: string, values: NamedValues, adapter: Adapter) => Promise<T>): Promise<T> {
    const directory = await mkdtemp(join(tmpdir(), "qlora-adapter-"));
    try {
      const [values, adapter] = await this.with(async (bench) => {
        await bench.perturb();
        return [await adapterValues(bench.session), bench.session.adapter] as const;
      });
      await writeFiles(directory, await adapter.save(values));
      return await body(directory, values, adapter);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

/** Those of `values` that are a bench's parameters. */
export const trainedOf = (bench: ModelBench, values: NamedValues): NamedValues =>
  new Map(bench.parameters.parameters.map(({ name }) => [name, values.get(name)!]));
