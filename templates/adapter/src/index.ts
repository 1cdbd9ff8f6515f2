import {
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
  ModelError,
  option,
  type ParameterSpec,
  adapterFiles,
  savedModuleKey,
  uniformValues,
} from "qlora/core";

/** What adapter_config.json calls this adapter; PEFT has LORA, IA3 and others. */
const PEFT_TYPE = "MY_PLUGIN";
/** What trains beside the adapter and is never adapted. */
const MODULES_TO_SAVE = ["classifier", "score"];

const options = defineOptions({
  rank: option("number.integer >= 1", { default: 8, help: "rank of the update" }),
  alpha: option("number > 0", { default: 8, help: "the update is scaled by alpha / rank" }),
  targetModules: option("string | string[]", {
    default: ["q_proj", "v_proj"],
    help: "linears to adapt by the end of their name, 'all-linear', or a regular expression",
  }),
});

/**
 * A low-rank update of frozen linears: y = W x + alpha / rank * B A x (Hu et al. 2021, arXiv 2106.09685).
 * @example adapter: myPlugin({ rank: 16, targetModules: "all-linear" })
 */
export const myPlugin = defineAdapter({
  name: "my-plugin",
  options,
  reads: (config) => config["peft_type"] === PEFT_TYPE,
  optionsFrom(config) {
    const { r: rank, alpha, target_modules: targetModules } = config;
    const checked = options.check({ rank, alpha, targetModules }, "adapter_config.json");
    if (!checked.ok) throw new ModelError("ADAPTER_CONFIG_INVALID", checked.problems.join("\n"));
    return checked.value;
  },
  create: async (chosen, context) => createAdapter(chosen, context),
});

const keyOf = (linear: LinearSpec, part: "A" | "B"): string => savedModuleKey(linear.name, `my_plugin_${part}`);

function createAdapter(
  { rank, alpha, targetModules }: InferOptions<typeof options>,
  { linears, head, baseModel, seed }: AdapterContext,
): Adapter {
  const names = linears.map(({ name }) => name);
  const targets = { targetModules, modulesToSave: MODULES_TO_SAVE };
  const matched = new Set(matchTargets(names, targets).matched);
  const parameters = linears
    .filter(({ name }) => matched.has(name))
    .flatMap((linear): ParameterSpec[] => {
      const { inFeatures, outFeatures } = linear;
      const a = keyOf(linear, "A");
      const initialA = () => uniformValues(rank * inFeatures, 1 / Math.sqrt(inFeatures), seed, a);
      const initialB = () => new Float32Array(outFeatures * rank); // zeros: a fresh adapter changes nothing
      return [
        { name: a, shape: [rank, inFeatures], initial: initialA },
        { name: keyOf(linear, "B"), shape: [outFeatures, rank], initial: initialB },
      ];
    });
  const shapes = [...parameters, ...head];
  return {
    parameters,
    adapt(spec, weight, set) {
      if (!matched.has(spec.name)) return { spec, weight };
      // A low-rank branch is fused with the base product; `forward` in its place takes any computation with ops.
      const [a, b] = [set.get(keyOf(spec, "A")), set.get(keyOf(spec, "B"))];
      return { spec, weight, branch: { a, b, scale: alpha / rank, dropout: 0, site: linears.indexOf(spec) } };
    },
    async save(values) {
      const config = {
        peft_type: PEFT_TYPE,
        base_model_name_or_path: baseModel,
        r: rank,
        alpha,
        target_modules: expandTargets(names, targets),
      };
      const card = formatModelCard(baseModel, "my-plugin", "Adapter and score head of a sequence classifier.");
      return adapterFiles({ config: `${JSON.stringify(config, null, 2)}\n`, card, shapes, values });
    },
    load: (folder) => loadAdapterTensors(folder, shapes),
  };
}
