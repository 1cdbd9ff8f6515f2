import { join } from "node:path";
import { parseArguments } from "../../cli/argv.ts";
import { dataGroup, deviceGroup } from "../../cli/config-flags.ts";
import { adamW8bit, accuracy, gemma2, lora, logLoss, tensorboard } from "../../plugins/index.ts";
import { configToJson, defineConfig, loadConfig, type ConfigInput } from "../../runtime/config/config.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { fuzz, inFile } from "./harness.ts";

const corpus = [
  JSON.stringify({
    model: { checkpoint: "gemma", embeddings: "device" },
    adapter: { rank: 8, alpha: 16, targetModules: ["q_proj"], layersToTransform: [1, 2] },
    optimizer: { beta1: 0.9, weightDecay: 0.01 },
    metrics: [{}, {}],
    reportTo: [{}],
    data: { trainFiles: ["a.csv"], maxLength: 64, nSplits: 5, foldIdx: 0 },
    training: { learningRate: 2e-4, maxSteps: 8, classWeights: [1, 2, 3] },
    device: { tier: "f32", memoryBudget: "1GiB" },
  }),
];

/** The config that a JSON value stands for, with plugins in the place of their options. */
function configOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const given = { ...value } as Record<string, unknown>;
  const made = { ...given };
  if ("model" in given) made["model"] = gemma2(given["model"] as never);
  if ("adapter" in given) made["adapter"] = lora(given["adapter"] as never);
  if ("optimizer" in given) made["optimizer"] = adamW8bit(given["optimizer"] as never);
  if (Array.isArray(given["metrics"]))
    made["metrics"] = given["metrics"].map((_, i) => (i % 2 === 0 ? logLoss() : accuracy()));
  if (Array.isArray(given["reportTo"]))
    made["reportTo"] = given["reportTo"].map((options) => tensorboard(options as never));
  return made;
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // cut where the input grew too long
  }
};

fuzz({
  name: "defineConfig",
  kind: "value",
  corpus,
  run: ({ text }) => {
    const config = defineConfig(configOf(parse(text)) as ConfigInput);
    JSON.parse(JSON.stringify(configToJson(config)));
  },
});

let files = 0;
fuzz({
  name: "config-file",
  kind: "text",
  inputs: 60,
  corpus: [
    `import { defineConfig } from ${JSON.stringify(join(import.meta.dir, "../../runtime/config/config.ts"))};
import { adamW8bit, gemma2, lora } from ${JSON.stringify(join(import.meta.dir, "../../plugins/index.ts"))};
export default defineConfig({
  model: gemma2({ checkpoint: "gemma" }), adapter: lora({ rank: 8 }), optimizer: adamW8bit(),
  data: { trainFiles: ["a.csv"] }, training: { learningRate: 2e-4 },
});
`,
  ],
  run: async (input) => {
    const path = inFile(input, `config-${files++}.ts`); // a module is loaded once
    await loadConfig(path, join(path, ".."));
  },
});

const own = [
  { name: "json", takesValue: false },
  { name: "config", takesValue: true },
  { name: "tta", takesValue: true, choices: ["none", "swap"] },
  { name: "help", takesValue: false, letter: "h" },
];
const groups = [
  dataGroup,
  deviceGroup,
  { title: "Training", section: "training", flat: true, shape: trainingOptions.shape },
  { title: "Adapter", section: "adapter", flat: false, shape: lora.options.shape },
];

fuzz({
  name: "flags",
  kind: "text",
  inputs: 1500,
  corpus: [
    "train --train-files a.csv,b.csv --learning-rate=3e-4 --adapter.rank 8 -h --json",
    'predict run --max-length 64 --tta swap --no-shuffle --class-weights [1,2] --adapter.target-modules ["q_proj"] -- x',
  ],
  run: ({ text }) => {
    const { problems, values } = parseArguments(text.split(" "), own, groups);
    const longest = Math.max(0, ...problems.map((problem) => problem.length));
    if (longest > 400 + text.length) throw new Error(`a problem of ${longest} characters`);
    for (const group of Object.keys(values))
      if (!groups.some(({ section }) => section === group)) throw new Error(`a section ${group}`);
  },
});
