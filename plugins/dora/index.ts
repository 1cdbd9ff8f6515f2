import {
  type Adapter,
  type AdapterContext,
  addLowRank,
  defineAdapter,
  defineOptions,
  expandTargets,
  formatLoraConfig,
  formatModelCard,
  type InferOptions,
  loadAdapterTensors,
  loraConfigDefaults,
  loraKey,
  matchTargets,
  option,
  parseLoraConfig,
  patternValue,
  type PeftLoraConfig,
  saveAdapterFiles,
  savedModuleKey,
} from "qlora";
import { type LinearSpec, normalValues, type ParameterSet, type ParameterSpec, uniformValues } from "qlora/kernels";
import { doraForward, type DoraBranch } from "./forward.ts";
import { weightNorm } from "./weight-norm.ts";

const options = defineOptions({
  rank: option("number.integer >= 1", { default: 8, help: "rank r of the update" }),
  alpha: option("number > 0", { default: 8, help: "the update is scaled by alpha / rank" }),
  dropout: option("0 <= number < 1", {
    default: 0,
    help: "share of the adapted path's input dropped in training; above 0 a step computes the base product twice",
  }),
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

type DoraOptions = InferOptions<typeof options>;

/** An adapted linear before it has memory. */
interface Planned {
  readonly spec: LinearSpec;
  readonly rank: number;
  readonly scale: number;
  readonly site: number;
}

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
  optionsFrom(json) {
    const { config } = parseLoraConfig(json, "adapter_config.json", { dora: true });
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
  create: async (o, context) => createDora(o, context),
});

const magnitudeKey = (name: string): string => savedModuleKey(name, "lora_magnitude_vector");

function createDora(o: DoraOptions, { linears, head, baseModel, seed }: AdapterContext): Adapter {
  const targets = { ...o, modulesToSave: loraConfigDefaults.modulesToSave };
  const names = linears.map(({ name }) => name);
  const matched = new Set(matchTargets(names, targets).matched);
  const planned = new Map<string, Planned>();
  for (const [site, spec] of linears.entries()) {
    if (!matched.has(spec.name)) continue;
    const rank = patternValue(o.rankPattern, spec.name, o.rank);
    const alpha = patternValue(o.alphaPattern, spec.name, o.alpha);
    planned.set(spec.name, { spec, rank, scale: alpha / (o.useRslora ? Math.sqrt(rank) : rank), site });
  }
  const config: PeftLoraConfig = {
    ...loraConfigDefaults,
    baseModelNameOrPath: baseModel,
    r: o.rank,
    loraAlpha: o.alpha,
    loraDropout: o.dropout,
    targetModules: expandTargets(names, targets),
    excludeModules: o.excludeModules ?? null,
    layersToTransform: o.layersToTransform ?? null,
    rankPattern: o.rankPattern,
    alphaPattern: o.alphaPattern,
    useRslora: o.useRslora,
    useDora: true,
    initLoraWeights: o.initLoraWeights,
  };
  const parameters = [...planned.values()].flatMap((branch) => branchParameters(branch, o.initLoraWeights, seed));
  const shapes = [...parameters, ...head];
  const branchOf = ({ spec, scale, site }: Planned, set: ParameterSet): DoraBranch => ({
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
    initialise(gpu, weightOf, set) {
      for (const plan of planned.values()) {
        const branch = branchOf(plan, set);
        const norms = gpu.alloc([plan.spec.outFeatures], "f32", `norms of ${plan.spec.name}`, "scratch");
        weightNorm(gpu, weightOf(plan.spec), branch, norms);
        gpu.copy(norms, branch.magnitude.value);
        gpu.free(norms);
      }
    },
    adapt(spec, weight, set) {
      const plan = planned.get(spec.name);
      if (plan === undefined) return { spec, weight };
      return { spec, weight, forward: doraForward(weight, branchOf(plan, set)) };
    },
    mergeWeight(spec, weight, values) {
      const plan = planned.get(spec.name);
      if (plan === undefined) return;
      const [a, b] = [values.get(loraKey(spec.name, "A"))!, values.get(loraKey(spec.name, "B"))!];
      addLowRank(weight, { a, b, scale: plan.scale, ...spec });
      setRowLengths(weight, values.get(magnitudeKey(spec.name))!);
    },
    save(directory, values) {
      const body = `DoRA adapter (r ${o.rank}, alpha ${o.alpha}) and score head of a sequence classifier, trained by qlora.`;
      const card = formatModelCard(baseModel, "lora", body);
      return saveAdapterFiles(directory, { config: formatLoraConfig(config), card, shapes, values });
    },
    load: (directory) => loadAdapterTensors(directory, shapes),
  };
}

/** A, B and the magnitudes, as PEFT names and initialises them; `initialise` sets the last. */
function branchParameters({ spec, rank }: Planned, init: boolean | "gaussian", seed: number): ParameterSpec[] {
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
    { name: magnitudeKey(name), shape: [outFeatures], initial: () => new Float32Array(outFeatures).fill(1) },
  ];
}

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
