/** Runs whose meta GPUs: every file is written as a run writes it, and nothing is computed. */
import { join } from "node:path";
import type { Parameter } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, type MetaDevice, metaGpu } from "../../core/device/meta.ts";
import { defineModel, defineOptions, option } from "../../core/index.ts";
import { defineConfig } from "../../index.ts";
import { scoreHead } from "../../kernels/score-head/index.ts";
import { logLoss, lora, sgd } from "../../plugins/index.ts";
import type { Config, ConfigInput } from "../../runtime/config/config.ts";
import { setGpuOpener } from "../../runtime/device/open.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import type { TrainOptions, TrainResult } from "../../runtime/run/train-types.ts";
import { trainSteps } from "../../runtime/run/train.ts";
import { tinyCheckpoint } from "./reference.ts";

const device: MetaDevice = { ...NVIDIA, info: { ...NVIDIA.info, tier: "f32" } };

/** Opens GPUs on the meta device: values are zeros, and so are losses where `loss` gives none for the steps that it takes, 1 the first. */
export function metaGpus(loss: (step: number) => number = () => 0): () => Promise<Gpu> {
  return async () => {
    const gpu = metaGpu(device);
    const read = gpu.readBytes.bind(gpu);
    let step = 0;
    gpu.readBytes = async (tensor) => {
      if (tensor.label === "gradient state") {
        step++;
        return bytesOf([1, Number.isFinite(loss(step)) ? 0 : 1, loss(step), 0]);
      }
      if (tensor.label === "losses") return bytesOf(new Array(tensor.shape[0]).fill(loss(step)));
      return read(tensor);
    };
    return gpu;
  };
}

/** Runs `work` where every GPU is opened by `open`. */
export async function onMeta<T>(open: () => Promise<Gpu>, work: () => Promise<T>): Promise<T> {
  setGpuOpener(open);
  try {
    return await work();
  } finally {
    setGpuOpener(undefined);
  }
}

const bytesOf = (values: readonly number[]): Uint8Array<ArrayBuffer> =>
  new Uint8Array(Float32Array.from(values).buffer);

const HEAD = "base_model.model.score.weight";
const SIZE = 4;

/** A model of one linear and a head that does no more than a run needs to go on. */
export const metaModel = defineModel({
  name: "paper",
  options: defineOptions({ checkpoint: option("string", { default: tinyCheckpoint, help: "gives its tokenizer" }) }),
  create: ({ checkpoint }) => ({
    checkpoint,
    outline: async (numLabels) => ({
      linears: [{ name: "model.layers.0.self_attn.q_proj", layer: 0, inFeatures: SIZE, outFeatures: SIZE }],
      head: [{ name: HEAD, shape: [numLabels, SIZE] }],
      baseParameters: [],
      vocabSize: 4096,
      numLabels: undefined,
    }),
    load: async ({ gpu, numLabels }) => {
      const weight = gpu.alloc([SIZE, SIZE], "f32", "weight", "weights") as never;
      let head: Parameter | undefined;
      return {
        head: [{ name: HEAD, shape: [numLabels, SIZE], initial: () => new Float32Array(numLabels * SIZE) }],
        record: {},
        weight: () => weight,
        bind: (_, parameters) => void (head = parameters.get(HEAD)),
        forward: (tape, { samples }) => scoreHead(tape, tape.alloc([samples, SIZE], "f32", "hidden states"), head!),
        destroy: () => gpu.free(weight),
      };
    },
  }),
});

/** A run of a few short rows of ids, which needs no tokenizer. */
export async function metaConfig(folder: string, parts: Partial<ConfigInput> = {}): Promise<Config> {
  const file = join(folder, "rows.jsonl");
  const rows = Array.from({ length: 6 }, (_, id) => ({ id: String(id), input_ids: [2, 5 + id, 9], label: id % 2 }));
  await writeFileAtomic(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return defineConfig({
    model: metaModel({}),
    adapter: lora({ rank: 1, targetModules: ["q_proj"] }),
    optimizer: sgd({ momentum: 0.9 }),
    metrics: [logLoss()],
    ...parts,
    data: { trainFiles: [file], maxLength: 8, cacheDir: join(folder, "cache"), ...parts.data },
    training: {
      outputDir: join(folder, "run"),
      perDeviceTrainBatchSize: 2,
      gradientAccumulationSteps: 1,
      gradientCheckpointing: "none",
      tokenBudget: 64,
      maxSteps: 2,
      loggingSteps: 1,
      saveStrategy: "steps",
      saveSteps: 1,
      ...parts.training,
    },
  });
}

/** Trains on the meta device to the end. */
export function metaTrain(config: Config, options?: TrainOptions, on = metaGpus()): Promise<TrainResult> {
  return onMeta(on, async () => {
    const steps = trainSteps(config, options);
    for (;;) {
      const { done, value } = await steps.next();
      if (done === true) return value;
    }
  });
}
