import { defineOptions, option } from "../../core/options.ts";
import type { LinearSpec } from "../../core/linear.ts";
import type { ParameterSpec } from "../../core/parameters.ts";
import { loadAdapterTensors, saveAdapterFiles } from "../../core/adapter-files.ts";
import { addLowRank } from "../../core/merge/low-rank.ts";
import {
  formatLoraConfig,
  formatModelCard,
  loraConfigDefaults,
  loraKey,
  parseLoraConfig,
  type PeftLoraConfig,
} from "../../core/peft.ts";
import { expandTargets, matchTargets, patternValue } from "../../core/peft-targets.ts";
import { type Adapter, type AdapterContext, defineAdapter } from "../../core/plugin.ts";
import { normalValues, uniformValues } from "../../core/random.ts";

const options = defineOptions({
  rank: option("number.integer >= 1", { default: 8, help: "rank r of the update" }),
  alpha: option("number > 0", { default: 8, help: "the update is scaled by alpha / rank" }),
  dropout: option("0 <= number < 1", { default: 0, help: "share of the branch's input dropped in training" }),
  targetModules: option("string | string[]", {
    default: ["q_proj", "v_proj"],
    help: "linears to adapt by the end of their name, 'all-linear', or a regular expression",
  }),
  excludeModules: option("string | string[]", { optional: true, help: "linears to leave alone" }),
  layersToTransform: option("number.integer[]", { optional: true, help: "layers to adapt (default: all)" }),
  rankPattern: option("Record<string, number>", { default: {}, help: "ranks of single modules, by name" }),
  alphaPattern: option("Record<string, number>", { default: {}, help: "alphas of single modules, by name" }),
  useRslora: option("boolean", { default: false, help: "scale by alpha / sqrt(rank)" }),
  initLoraWeights: option("boolean | 'gaussian'", {
    default: true,
    help: "first values: true is Kaiming-uniform A and zero B, 'gaussian' normal A, false random B too",
  }),
});

/** An adapted linear before it has memory. */
interface Branch {
  readonly spec: LinearSpec;
  readonly rank: number;
  readonly scale: number;
  readonly site: number;
}

/**
 * LoRA with PEFT's semantics and files: y = W x + scale * B A dropout(x).
 * Hu et al. 2021 (arXiv 2106.09685); huggingface/peft, tuners/lora/layer.py.
 * @example lora({ rank: 64, alpha: 32, dropout: 0.05, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"] })
 */
export const lora = defineAdapter({
  name: "lora",
  options,
  reads: (config) => config["peft_type"] === "LORA" && config["use_dora"] !== true,
  optionsFrom(json) {
    const { config } = parseLoraConfig(json, "adapter_config.json");
    const layers = config.layersToTransform;
    return {
      rank: config.r,
      alpha: config.loraAlpha,
      dropout: config.loraDropout,
      targetModules: config.targetModules,
      ...(config.excludeModules === null ? {} : { excludeModules: config.excludeModules }),
      ...(layers === null ? {} : { layersToTransform: typeof layers === "number" ? [layers] : layers }),
      rankPattern: config.rankPattern,
      alphaPattern: config.alphaPattern,
      useRslora: config.useRslora,
    };
  },
  create: async (o, context) => createLora(o, context),
});

type LoraOptions = Parameters<Parameters<typeof defineAdapter<(typeof options)["shape"]>>[0]["create"]>[0];

function createLora(o: LoraOptions, context: AdapterContext): Adapter {
  const modulesToSave = loraConfigDefaults.modulesToSave ?? [];
  const targets = { ...o, modulesToSave };
  const names = context.linears.map((linear) => linear.name);
  const { matched } = matchTargets(names, targets);
  const branches = new Map<string, Branch>();
  context.linears.forEach((spec, site) => {
    if (!matched.includes(spec.name)) return;
    const rank = patternValue(o.rankPattern, spec.name, o.rank);
    const alpha = patternValue(o.alphaPattern, spec.name, o.alpha);
    branches.set(spec.name, { spec, rank, scale: alpha / (o.useRslora ? Math.sqrt(rank) : rank), site });
  });
  const config: PeftLoraConfig = {
    ...loraConfigDefaults,
    baseModelNameOrPath: context.baseModel,
    r: o.rank,
    loraAlpha: o.alpha,
    loraDropout: o.dropout,
    targetModules: expandTargets(names, targets),
    excludeModules: o.excludeModules ?? null,
    layersToTransform: o.layersToTransform ?? null,
    rankPattern: o.rankPattern,
    alphaPattern: o.alphaPattern,
    useRslora: o.useRslora,
    initLoraWeights: o.initLoraWeights,
  };
  const parameters = [...branches.values()].flatMap((branch) =>
    branchParameters(branch, o.initLoraWeights, context.seed),
  );
  const shapes = [...parameters, ...context.head];
  return {
    parameters,
    adapt(spec, weight, set) {
      const branch = branches.get(spec.name);
      if (branch === undefined) return { spec, weight };
      const a = set.get(loraKey(spec.name, "A"));
      const b = set.get(loraKey(spec.name, "B"));
      return { spec, weight, branch: { a, b, scale: branch.scale, dropout: o.dropout, site: branch.site } };
    },
    mergeWeight(spec, weight, values) {
      const branch = branches.get(spec.name);
      if (branch === undefined) return;
      const [a, b] = [values.get(loraKey(spec.name, "A"))!, values.get(loraKey(spec.name, "B"))!];
      addLowRank(weight, { a, b, scale: branch.scale, ...spec });
    },
    save: (directory, values) => {
      const body = `LoRA adapter (r ${o.rank}, alpha ${o.alpha}) and score head of a sequence classifier, trained by qlora.`;
      const card = formatModelCard(context.baseModel, "lora", body);
      return saveAdapterFiles(directory, { config: formatLoraConfig(config), card, shapes, values });
    },
    load: (directory) => loadAdapterTensors(directory, shapes),
  };
}

/** A then B, as PEFT names and initialises them. */
function branchParameters({ spec, rank }: Branch, init: boolean | "gaussian", seed: number): ParameterSpec[] {
  const { name, inFeatures, outFeatures } = spec;
  const [a, b] = [loraKey(name, "A"), loraKey(name, "B")];
  // Kaiming-uniform with a = sqrt(5) is U(-1/sqrt(fan in), 1/sqrt(fan in)).
  const initialA = (): Float32Array<ArrayBuffer> =>
    init === "gaussian"
      ? normalValues(rank * inFeatures, 1 / rank, seed, a)
      : uniformValues(rank * inFeatures, 1 / Math.sqrt(inFeatures), seed, a);
  const initialB = (): Float32Array<ArrayBuffer> =>
    init === false
      ? uniformValues(outFeatures * rank, 1 / Math.sqrt(rank), seed, b)
      : new Float32Array(outFeatures * rank);
  return [
    { name: a, shape: [rank, inFeatures], initial: initialA },
    { name: b, shape: [outFeatures, rank], initial: initialB },
  ];
}
