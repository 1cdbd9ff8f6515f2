import { elementCount } from "../core/device/tensor.ts";
import type { ModelLoader } from "../core/plugin/model.ts";
import { type Config, requireConfig } from "../runtime/config/config.ts";
import { loadRunData } from "../runtime/run/data.ts";
import { openBaseModel } from "../runtime/session/base-model.ts";
import { taskKinds } from "../runtime/training/tasks/index.ts";

/** Every parameter of a model with its adapter, and peft's counts. */
export interface InspectReport {
  readonly parameters: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    /** As the checkpoint stores it, and what that is quantized to as it is loaded: `NF4`, `BF16`, `BF16 -> NF4`. */
    readonly dtype: string;
    readonly trainable: boolean;
  }[];
  readonly trainableParameters: number;
  /** As peft counts: the head's frozen original and its trained copy are two. */
  readonly allParameters: number;
}

/** Classes of the notebook's task, where neither the data nor the checkpoint says. */
const DEFAULT_LABELS = 3;

/** The parameter table from the config and the checkpoint's config.json; needs no GPU and no weights. @throws QloraError */
export async function inspectConfig(config: Config): Promise<InspectReport> {
  const { source, name: baseModel } = await openBaseModel(config.model, { part: "config" });
  const numLabels = await labelsOf(config, source);
  const outline = await source.outline(numLabels);
  const { linears, head } = outline;
  const adapter = await config.adapter.create({ linears, head, baseModel, seed: config.training.seed });
  const trained = [...adapter.parameters, ...head].map(({ name, shape }) => ({
    name,
    shape,
    dtype: "F32",
    trainable: true,
  }));
  const frozen = outline.baseParameters.map(({ name, shape, dtype, quantized }) => {
    const loaded = quantized === undefined ? dtype : `${dtype} -> ${quantized.quantType.toUpperCase()}`;
    return { name, shape, dtype: loaded, trainable: false };
  });
  const count = (rows: readonly { readonly shape: readonly number[] }[]): number =>
    rows.reduce((sum, row) => sum + elementCount(row.shape), 0);
  return {
    parameters: [...frozen, ...trained],
    trainableParameters: count(trained),
    allParameters: count(frozen) + count(trained),
  };
}

/** Classes of a config: its data's, else the checkpoint's. @throws DataError, ModelError */
export async function labelsOf(config: Config, source: ModelLoader): Promise<number> {
  if (config.data.trainFiles.length > 0)
    return taskKinds[config.task.task].countOutputs([(await loadRunData(config.data, config.task)).train]);
  const { numLabels } = await source.outline(DEFAULT_LABELS);
  return numLabels ?? DEFAULT_LABELS;
}

/**
 * Every parameter of a config's model and adapter; reads config.json only.
 * @throws ConfigError, ModelError
 * @example const { trainableParameters, allParameters } = await inspect(config);
 */
export async function inspect(config: Config): Promise<InspectReport> {
  return inspectConfig(requireConfig(config));
}
