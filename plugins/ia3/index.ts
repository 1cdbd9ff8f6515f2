import {
  type AdaptedLinear,
  type Adapter,
  type AdapterContext,
  defineAdapter,
  defineOptions,
  expandTargets,
  formatModelCard,
  type InferOptions,
  type LinearSpec,
  loadAdapterTensors,
  matchTargets,
  option,
  pythonPattern,
  adapterFiles,
  savedModuleKey,
} from "qlora/core";
import { scaleColumns } from "qlora/kernels";
import { formatIa3Config, parseIa3Config } from "./config.ts";

const options = defineOptions({
  targetModules: option("string | string[]", {
    default: ["k_proj", "v_proj", "down_proj"],
    help: "linears to adapt by the end of their name, 'all-linear', or a regular expression",
  }),
  feedforwardModules: option("string | string[]", {
    default: ["down_proj"],
    help: "those of them whose input is scaled, not their output",
  }),
  excludeModules: option("string | string[]", { optional: true, help: "linears to leave alone" }),
});

/**
 * (IA)^3 with PEFT's semantics and files: one trained factor to each output of a linear, or to each input of a
 * feed-forward one. No rank, no dropout.
 * Liu et al. 2022 (arXiv 2205.05638); huggingface/peft, tuners/ia3/layer.py and bnb.py.
 * @example adapter: ia3({ targetModules: ["k_proj", "v_proj", "down_proj"] })
 */
export const ia3 = defineAdapter({
  name: "ia3",
  options,
  reads: (config) => config["peft_type"] === "IA3",
  optionsFrom(json) {
    const { targetModules, feedforwardModules, excludeModules } = parseIa3Config(json);
    return { targetModules, feedforwardModules, ...(excludeModules === undefined ? {} : { excludeModules }) };
  },
  create: async (o, context) => createIa3(o, context),
});

/** What PEFT trains beside the factors, and never adapts. */
const MODULES_TO_SAVE = ["classifier", "score"];

const keyOf = (linear: LinearSpec): string => savedModuleKey(linear.name, "ia3_l");

function createIa3(o: InferOptions<typeof options>, { linears, head, baseModel }: AdapterContext): Adapter {
  const names = linears.map(({ name }) => name);
  const targets = { ...o, modulesToSave: MODULES_TO_SAVE };
  const matched = new Set(matchTargets(names, targets).matched);
  // PEFT lets a feed-forward module match by the end of its name, at a dot or not.
  const { feedforwardModules } = o;
  const isFeedforward =
    typeof feedforwardModules === "string"
      ? pythonPattern(feedforwardModules, "feedforwardModules")
      : (name: string) => feedforwardModules.some((end) => name.endsWith(end));
  const feedforward = ({ name }: LinearSpec): boolean => isFeedforward(name);
  const parameters = linears
    .filter(({ name }) => matched.has(name))
    .map((linear) => {
      const shape = feedforward(linear) ? [1, linear.inFeatures] : [linear.outFeatures, 1];
      const size = shape[0]! * shape[1]!;
      // Ones change nothing.
      return { name: keyOf(linear), shape, initial: () => new Float32Array(size).fill(1) };
    });
  const shapes = [...parameters, ...head];
  return {
    parameters,
    adapt(spec, weight, set): AdaptedLinear {
      if (!matched.has(spec.name)) return { spec, weight };
      const factor = set.get(keyOf(spec));
      const before = feedforward(spec);
      return {
        spec,
        weight,
        forward(tape, x, base) {
          const input = before ? scaleColumns(tape, x, factor) : x;
          const y = base(input);
          if (before) {
            tape.release(input);
            return y;
          }
          const scaled = scaleColumns(tape, y, factor);
          tape.release(y);
          return scaled;
        },
      };
    },
    mergeWeight(spec, weight, values) {
      const factors = values.get(keyOf(spec));
      if (factors === undefined) return;
      const { inFeatures } = spec;
      // Inputs are columns, outputs are rows.
      const of = feedforward(spec)
        ? (i: number) => factors[i % inFeatures]!
        : (i: number) => factors[Math.floor(i / inFeatures)]!;
      for (let i = 0; i < weight.length; i++) weight[i]! *= of(i);
    },
    mergeBias(spec, bias, values) {
      const factors = values.get(keyOf(spec));
      if (factors === undefined || feedforward(spec)) return;
      for (let i = 0; i < bias.length; i++) bias[i]! *= factors[i]!;
    },
    async save(values) {
      const config = { ...o, targetModules: expandTargets(names, targets) };
      const body = "(IA)^3 adapter and score head of a sequence classifier, trained by qlora.";
      const card = formatModelCard(baseModel, "ia3", body);
      return adapterFiles({ config: formatIa3Config(config, baseModel), card, shapes, values });
    },
    load: (folder) => loadAdapterTensors(folder, shapes),
  };
}
