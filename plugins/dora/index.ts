import {
  type Adapter,
  type AdapterContext,
  addLowRank,
  defineAdapter,
  defineOptions,
  formatLoraConfig,
  formatModelCard,
  loadAdapterTensors,
  type LoraBranch,
  loraKey,
  type LoraOptions,
  loraOptionsFrom,
  loraShape,
  option,
  type ParameterSet,
  type ParameterSpec,
  parseLoraConfig,
  planLora,
  adapterFiles,
  savedModuleKey,
} from "qlora/core";
import { doraForward, type DoraBranch } from "./forward.ts";
import { weightNorm } from "./weight-norm.ts";

const options = defineOptions({
  ...loraShape,
  dropout: option("0 <= number < 1", {
    default: 0,
    help: "share of the adapted path's input dropped in training; above 0 a step computes the base product twice",
  }),
});

/**
 * DoRA with PEFT's semantics and files: the rows of W + scale * B A keep their direction and get a trained length. The
 * norm of a row is a constant to the gradient, as in the paper's section 4.3 and in PEFT.
 * Liu et al. 2024 (arXiv 2402.09353); huggingface/peft, tuners/lora/dora.py and variants.py.
 * @example adapter: dora({ rank: 16, alpha: 32, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj"] })
 */
export const dora = defineAdapter({
  name: "dora",
  options,
  reads: (config) => config["peft_type"] === "LORA" && config["use_dora"] === true,
  optionsFrom: (json) => loraOptionsFrom(parseLoraConfig(json, "adapter_config.json", { dora: true }).config),
  create: async (o, context) => createDora(o, context),
});

const magnitudeKey = (name: string): string => savedModuleKey(name, "lora_magnitude_vector");

function createDora(o: LoraOptions, context: AdapterContext): Adapter {
  const { branches, config } = planLora(o, context);
  const parameters = [...branches.values()].flatMap(({ spec, parameters: low }) => [...low, magnitudes(spec)]);
  const shapes = [...parameters, ...context.head];
  const branchOf = ({ spec, scale, site }: LoraBranch, set: ParameterSet): DoraBranch => ({
    a: set.get(loraKey(spec.name, "A")),
    b: set.get(loraKey(spec.name, "B")),
    magnitude: set.get(magnitudeKey(spec.name)),
    scale,
    dropout: o.dropout,
    site,
  });
  return {
    parameters,
    // The length that a row has is the length it starts with.
    initialize(gpu, weightOf, set) {
      for (const plan of branches.values()) {
        const branch = branchOf(plan, set);
        const norms = gpu.alloc([plan.spec.outFeatures], "f32", `norms of ${plan.spec.name}`, "scratch");
        weightNorm(gpu, weightOf(plan.spec), branch, norms);
        gpu.copy(norms, branch.magnitude.value);
        gpu.free(norms);
      }
    },
    adapt(spec, weight, set) {
      const plan = branches.get(spec.name);
      if (plan === undefined) return { spec, weight };
      return { spec, weight, forward: doraForward(weight, branchOf(plan, set)) };
    },
    mergeWeight(spec, weight, values) {
      const plan = branches.get(spec.name);
      if (plan === undefined) return;
      const [a, b] = [values.get(loraKey(spec.name, "A"))!, values.get(loraKey(spec.name, "B"))!];
      addLowRank(weight, { a, b, scale: plan.scale, ...spec });
      setRowLengths(weight, values.get(magnitudeKey(spec.name))!);
    },
    async save(values) {
      const body = `DoRA adapter (r ${o.rank}, alpha ${o.alpha}) and score head of a sequence classifier, trained by qlora.`;
      const card = formatModelCard(context.baseModel, "lora", body);
      return adapterFiles({
        config: formatLoraConfig({ ...config, useDora: true }),
        card,
        shapes,
        values,
      });
    },
    load: (folder) => loadAdapterTensors(folder, shapes),
  };
}

/** The trained lengths of a linear's rows; `initialize` sets their first values. */
const magnitudes = ({ name, outFeatures }: LoraBranch["spec"]): ParameterSpec => ({
  name: magnitudeKey(name),
  shape: [outFeatures],
  initial: () => new Float32Array(outFeatures).fill(1),
});

/** Gives every row of weight [out,in] the L2 norm that `lengths` [out] says, in place. */
function setRowLengths(weight: Float32Array, lengths: Float32Array): void {
  const columns = weight.length / lengths.length;
  lengths.forEach((length, row) => {
    const values = weight.subarray(row * columns, (row + 1) * columns);
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += values[i]! ** 2;
    const factor = length / Math.sqrt(sum);
    for (let i = 0; i < columns; i++) values[i]! *= factor;
  });
}
