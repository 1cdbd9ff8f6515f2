/** What LoRA and its variants share: options, the linears that get a branch, first values, and PEFT's config. */
import type { LinearSpec } from "../compute/linear.ts";
import type { ParameterSpec } from "../compute/parameters.ts";
import { loraConfigDefaults, loraKey, type PeftLoraConfig } from "../formats/peft.ts";
import { type Option, option, type OptionsInput, type OptionsOutput } from "../options/options.ts";
import type { AdapterContext } from "../plugin/adapter.ts";
import { normalValues, uniformValues } from "../util/random.ts";
import { expandTargets, matchTargets, patternValue } from "./peft-targets.ts";

/**
 * Options of LoRA, which a variant takes over or changes.
 * @example const options = defineOptions({ ...loraShape, scale: option("number > 0", { default: 1, help: "of my own" }) });
 */
export const loraShape = {
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
} satisfies Readonly<Record<string, Option>>;

/** Values of {@link loraShape}'s options. */
export type LoraOptions = OptionsOutput<typeof loraShape>;

/** A linear with a low-rank branch, before it has memory. */
export interface LoraBranch {
  readonly spec: LinearSpec;
  /** alpha / rank, or alpha / sqrt(rank). */
  readonly scale: number;
  /** Number of the branch, which keeps dropout masks apart. */
  readonly site: number;
  /** A [R,in] and B [out,R], as PEFT names and initializes them. */
  readonly parameters: readonly [ParameterSpec, ParameterSpec];
}

/** What {@link planLora} finds. */
export interface LoraPlan {
  /** By the linear's name, in the order of the model. */
  readonly branches: ReadonlyMap<string, LoraBranch>;
  /** For adapter_config.json. */
  readonly config: PeftLoraConfig;
}

/**
 * Picks the linears that get a branch, and says what adapter_config.json will hold.
 * Source: huggingface/peft, tuners/lora/layer.py.
 * @throws ConfigError where no linear matches
 * @example
 * const options = defineOptions(loraShape).parse({ rank: 4, targetModules: "all-linear" });
 * const { linears, head } = await toyModel({ layers: 1 }).outline(2);
 * const { branches } = planLora(options, { linears, head, baseModel: "toy", seed: 1 });
 * console.log(branches.size); // 7
 */
export function planLora(options: LoraOptions, { linears, baseModel, seed }: AdapterContext): LoraPlan {
  const targets = { ...options, modulesToSave: loraConfigDefaults.modulesToSave };
  const names = linears.map(({ name }) => name);
  const matched = new Set(matchTargets(names, targets).matched);
  const branches = new Map<string, LoraBranch>();
  for (const [site, spec] of linears.entries()) {
    if (!matched.has(spec.name)) continue;
    const rank = patternValue(options.rankPattern, spec.name, options.rank);
    const alpha = patternValue(options.alphaPattern, spec.name, options.alpha);
    const scale = alpha / (options.useRslora ? Math.sqrt(rank) : rank);
    branches.set(spec.name, { spec, scale, site, parameters: firstValues(spec, rank, options.initLoraWeights, seed) });
  }
  const config: PeftLoraConfig = {
    ...loraConfigDefaults,
    baseModelNameOrPath: baseModel,
    r: options.rank,
    loraAlpha: options.alpha,
    loraDropout: options.dropout,
    targetModules: expandTargets(names, targets),
    excludeModules: options.excludeModules ?? null,
    layersToTransform: options.layersToTransform ?? null,
    rankPattern: options.rankPattern,
    alphaPattern: options.alphaPattern,
    useRslora: options.useRslora,
    initLoraWeights: options.initLoraWeights,
  };
  return { branches, config };
}

/**
 * The options that an adapter_config.json stands for; first values are not among them, as trained ones take their place.
 * @example const { rank } = loraOptionsFrom({ ...loraConfigDefaults, baseModelNameOrPath: "b", r: 4, loraAlpha: 8, targetModules: "all-linear" });
 */
export function loraOptionsFrom(config: PeftLoraConfig): OptionsInput<typeof loraShape> {
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
}

/** A, then B. */
function firstValues(
  { name, inFeatures, outFeatures }: LinearSpec,
  rank: number,
  init: boolean | "gaussian",
  seed: number,
): [ParameterSpec, ParameterSpec] {
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
