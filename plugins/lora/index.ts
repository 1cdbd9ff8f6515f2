import {
  type Adapter,
  type AdapterContext,
  addLowRank,
  defineAdapter,
  defineOptions,
  formatLoraConfig,
  formatModelCard,
  loadAdapterTensors,
  loraKey,
  type LoraOptions,
  loraOptionsFrom,
  loraShape,
  parseLoraConfig,
  planLora,
  adapterFiles,
} from "qlora/core";

/**
 * LoRA with PEFT's semantics and files: y = W x + scale * B A dropout(x).
 * Hu et al. 2021 (arXiv 2106.09685); huggingface/peft, tuners/lora/layer.py.
 * @example lora({ rank: 64, alpha: 32, dropout: 0.05, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"] })
 */
export const lora = defineAdapter({
  name: "lora",
  options: defineOptions(loraShape),
  reads: (config) => config["peft_type"] === "LORA" && config["use_dora"] !== true,
  optionsFrom: (json) => loraOptionsFrom(parseLoraConfig(json, "adapter_config.json").config),
  create: async (o, context) => createLora(o, context),
});

function createLora(o: LoraOptions, context: AdapterContext): Adapter {
  const { branches, config } = planLora(o, context);
  const parameters = [...branches.values()].flatMap((branch) => branch.parameters);
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
    save: async (values) => {
      const body = `LoRA adapter (r ${o.rank}, alpha ${o.alpha}) and score head of a sequence classifier, trained by qlora.`;
      const card = formatModelCard(context.baseModel, "lora", body);
      return adapterFiles({ config: formatLoraConfig(config), card, shapes, values });
    },
    load: (folder) => loadAdapterTensors(folder, shapes),
  };
}
