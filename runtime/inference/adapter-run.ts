/** What a trained adapter is run on: the rows, the base model, the plugin that reads it. */
import { ConfigError, ModelError, QloraError } from "../../core/errors.ts";
import { requireFinite } from "../../core/formats/finite.ts";
import { ADAPTER_CONFIG_FILE, parseLoraConfig } from "../../core/formats/peft.ts";
import { formatValue } from "../../core/options/describe.ts";
import type { AdapterFactory, AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { TemplatePlugin } from "../../core/plugin/template.ts";
import type { PluginFactory } from "../../core/plugin/factory.ts";
import {
  type ModelSpec,
  type ModelPlacement,
  type ModelPlugin,
  type ModelLoader,
  resolvePlacement,
} from "../../core/plugin/model.ts";
import { quantizationInput, quantizationNames } from "../../core/plugin/quantization-options.ts";
import { dataOptions, type DataOptions, type DataOptionsInput } from "../config/data-options.ts";
import { deviceOptions, type DeviceOptions } from "../config/device-options.ts";
import { placementOptions } from "../config/placement-options.ts";
import { checkRecorded, type RecordedContext, resolveRecorded } from "../config/recorded.ts";
import type { ResolveContext } from "../config/resolve.ts";
import { taskOptions, type TaskOptions } from "../config/task-options.ts";
import { trainingOptions } from "../config/training-options.ts";
import { pairAnswers, splitAnswers } from "../data/answers.ts";
import { loadDataset, requireLabels, type Dataset } from "../data/dataset.ts";
import type { ClassNames } from "../data/label-encoder.ts";
import type { RunListener } from "../events.ts";
import { openFolder } from "../files/folder.ts";
import type { TrainedAdapter } from "../folder/find-adapter.ts";
import type { MemorySettings, UserSettings } from "../planning/settings.ts";
import { evaluationColumns, labelValues, loadEvaluationData } from "../run/data.ts";
import { requireProblemType } from "../run/problem-type.ts";
import { type BaseModel, type BaseModelOptions, modelForCheckpoint, openBaseModel } from "../session/base-model.ts";
import { adapterTask, type TaskRequest } from "./adapter-task.ts";

/** A trained adapter and the data to run it on. What is undefined is taken from the run's own record. */
export interface InferenceRequest extends TaskRequest {
  /** Output folder of a run, one of its checkpoints, or a PEFT adapter's folder. */
  readonly run: string;
  /** files of rows; empty means the run's own evaluation data. */
  readonly files?: readonly string[] | undefined;
  /** Folder or hub id of the base model. */
  readonly baseModel?: string | undefined;
  readonly data?: DataOptionsInput | undefined;
  readonly perDeviceEvalBatchSize?: number | undefined;
  /** Most tokens of a batch. */
  readonly tokenBudget?: number | undefined;
  /** Where the token table lies. */
  readonly embeddings?: ModelPlacement["embeddings"] | undefined;
  /** Keep f16 copies of the linears: faster in tier matrix, more memory. */
  readonly keepDequantized?: boolean | undefined;
  /** What a base in 16 bits is quantized to as it is loaded; default: as the run was trained, else nf4. */
  readonly quantization?: "none" | "nf4" | "fp4" | undefined;
  /** Load NaN and infinite values of the base and of the adapter as they are; otherwise they are refused by tensor name. */
  readonly allowNonFinite?: boolean | undefined;
  readonly device?: Partial<DeviceOptions> | undefined;
  /** Run the code of a plugin that the run's record names by a file. Default false. */
  readonly trustRemoteCode?: boolean | undefined;
}

/** What an inference request may hold, for the checks of those that have more. */
export const inferenceRequest = {
  run: "string",
  files: "string[]?",
  baseModel: "string?",
  data: "object?",
  perDeviceEvalBatchSize: `${trainingOptions.shape.perDeviceEvalBatchSize.definition}?`,
  tokenBudget: `${trainingOptions.shape.tokenBudget.definition}?`,
  embeddings: `${placementOptions.shape.embeddings.definition}?`,
  keepDequantized: `${placementOptions.shape.keepDequantized.definition}?`,
  quantization: `(${quantizationNames})?`,
  allowNonFinite: "boolean?",
  device: "object?",
  trustRemoteCode: "boolean?",
  task: `${taskOptions.shape.task.definition}?`,
  labelColumns: "string[]?",
} as const;

/** How plugins that the run's record names are found. */
export const recordedContext = (
  { trustRemoteCode = false }: InferenceRequest,
  { directory }: TrainedAdapter,
  plugins: ResolveContext,
): RecordedContext => ({ ...plugins, run: directory, trust: trustRemoteCode });

/** Everything about a trained adapter that is known before a GPU is open. */
export interface AdapterRun {
  readonly source: ModelLoader;
  /** The base model as the config or the adapter's files name it. */
  readonly baseModel: string;
  readonly plugin: AdapterPlugin;
  readonly task: TaskOptions;
  readonly numLabels: number;
  readonly vocabSize: number;
  readonly maxSamples: number;
  /** Short rows may share a batch of as many tokens as `maxSamples` of the longest have: nobody asked for a size here. */
  readonly packsShortRows: boolean;
  /** What the request and the model's options settle of memory. */
  readonly given: UserSettings;
  /** The rest as the run's memory plan settled it, else all on the device, packed and uncut. */
  readonly settings: MemorySettings;
  /** Whether the run recorded a memory plan. */
  readonly planned: boolean;
  readonly allowNonFinite: boolean;
  readonly device: DeviceOptions;
  /** The template of the run's own config; undefined where the data options name it. */
  readonly template: TemplatePlugin | undefined;
}

/** Finds, and where need be downloads, what an adapter is run on. @throws ConfigError, ModelError */
export async function openAdapterRun(
  request: InferenceRequest,
  adapter: TrainedAdapter,
  plugins: ResolveContext,
  onEvent: RunListener | undefined,
): Promise<AdapterRun> {
  const { record, notes, directory } = adapter;
  for (const message of notes) onEvent?.({ type: "info", message });
  const context = recordedContext(request, adapter, plugins);
  // What the run's folder can tell comes before the base model, which may be gigabytes away.
  for (const kind of ["model", "adapter"] as const)
    if (record !== undefined) checkRecorded(kind, record.config[kind], context);
  const template = await recordedTemplate(request, adapter, context);
  const plugin = await adapterFrom(adapter, context);
  const { options: task, numLabels, note } = await adapterTask(adapter, request);
  if (note !== undefined) onEvent?.({ type: "warning", message: note });
  const unknown = unknownSettings(adapter.config);
  if (unknown !== undefined) onEvent?.({ type: "warning", message: unknown });
  const fits = async ({ linears, head }: ModelSpec, baseModel: string): Promise<void> => {
    const made = await plugin.create({ linears, head, baseModel, seed: 0 });
    const values = await made.load(openFolder(directory));
    if (request.allowNonFinite !== true) requireFinite(directory, values);
  };
  const base = { numLabels, onOutline: fits, onEvent };
  const opened = await openAdapterBase(adapter, request, context, base);
  const { source, name } = opened;
  await requireProblemType(opened, task.task);
  const { vocabSize } = await source.outline(numLabels);
  const saved = record === undefined ? undefined : trainingOptions.parse(record.config.training, "run.json training");
  const planned = record?.memory?.settings;
  const maxSamples =
    request.perDeviceEvalBatchSize ?? saved?.perDeviceEvalBatchSize ?? trainingOptions.parse({}).perDeviceEvalBatchSize;
  const device = deviceOptions.parse({ ...request.device }, "device");
  return {
    source,
    baseModel: name,
    plugin,
    task,
    numLabels,
    vocabSize,
    maxSamples,
    packsShortRows: request.perDeviceEvalBatchSize === undefined,
    given: { checkpointing: "none", tokenBudget: request.tokenBudget, placement: source.placement },
    settings: {
      checkpointing: "none",
      tokenBudget: request.tokenBudget ?? planned?.tokenBudget ?? saved?.tokenBudget,
      ...resolvePlacement(source.placement ?? { embeddings: undefined, keepDequantized: undefined }, planned),
    },
    planned: planned !== undefined,
    allowNonFinite: request.allowNonFinite === true,
    device,
    template,
  };
}

/** The template that the run's config brought, where the request asks for no other. @throws PluginError */
async function recordedTemplate(
  { data }: InferenceRequest,
  { record }: TrainedAdapter,
  context: RecordedContext,
): Promise<TemplatePlugin | undefined> {
  const named = data?.template === undefined ? record?.config.template : undefined;
  if (named === undefined) return undefined;
  return (await resolveRecorded("template", named, context)).configure(named.options) as TemplatePlugin;
}

/** The data options: what the request names, over those of the run. @throws ConfigError */
export function requestData(
  request: InferenceRequest,
  recorded: Readonly<Record<string, unknown>> | undefined,
): DataOptions {
  const given = Object.entries(request.data ?? {}).filter(([, value]) => value !== undefined);
  return dataOptions.parse({ ...recorded, ...Object.fromEntries(given) }, "data");
}

/** Options that say which of the run's own rows are meant. */
const OWN_ROWS = ["trainFiles", "evalFiles", "nSplits", "foldIdx", "foldBy", "groupBy"] as const;

/** The rows that the request names, else those that the run kept to evaluate on. @throws DataError, ConfigError */
export async function requestRows(
  { files = [], data: asked = {} }: InferenceRequest,
  data: DataOptions,
  recorded: boolean,
  {
    labelled,
    labelNames,
    task,
  }: { readonly labelled: boolean; readonly labelNames: ClassNames; readonly task: TaskOptions },
): Promise<Dataset> {
  if (files.length > 0) {
    const unused = OWN_ROWS.filter((key) => asked[key] !== undefined);
    if (unused.length > 0) {
      const problems = unused.map(
        (key) => `data.${key}: got ${formatValue(asked[key])} with files, whose rows are all taken`,
      );
      throw new ConfigError("DATA_FILES_WHOLE", problems, {
        hint: "Leave it out; or leave the files out, for the rows that the run held out.",
      });
    }
    const rows = await loadDataset(files, {
      ...evaluationColumns(data),
      // Which answer was chosen is part of what a score is called.
      labelled: labelled || task.task === "reward",
      labelNames,
      values: labelValues(data, task, labelNames),
    });
    if (task.task === "reward") return labelled ? pairAnswers(requireLabels(rows)) : splitAnswers(rows);
    return labelled ? requireLabels(rows) : rows;
  }
  if (recorded) return loadEvaluationData(data, task, labelNames);
  throw new ConfigError(
    "DATA_NO_FILES",
    "no files are given, and the adapter's folder has no run.json that names any",
    {
      hint: "Name the files of rows after the adapter.",
    },
  );
}

/** The base model that an adapter was trained on, at the same commit; or another one, where `baseModel` names it. */
async function openAdapterBase(
  { record, config, directory }: TrainedAdapter,
  { baseModel, embeddings, keepDequantized, quantization }: InferenceRequest,
  plugins: RecordedContext,
  opening: BaseModelOptions,
): Promise<BaseModel> {
  const { onEvent } = opening;
  const recorded = record?.config.model;
  const options = withoutUndefined({
    ...recorded?.options,
    ...withoutUndefined({ embeddings, keepDequantized }),
    ...quantizationInput(quantization),
  });
  if (baseModel !== undefined) delete options["revision"];
  const checkpoint = baseModel ?? options["checkpoint"] ?? config["base_model_name_or_path"];
  if (typeof checkpoint !== "string") {
    throw new ModelError("BASE_MODEL_UNKNOWN", `${directory}: adapter_config.json names no base model`, {
      hint: "Name its folder or hub id with --base-model.",
    });
  }
  const open = async (revision: string | undefined): Promise<BaseModel> => {
    const factory =
      recorded === undefined
        ? await modelForCheckpoint(checkpoint, plugins.shipped, { revision, onEvent })
        : await resolveRecorded("model", recorded, plugins);
    const chosen = revision === undefined ? {} : { revision };
    const plugin = factory.configure({ ...options, ...chosen, checkpoint }) as ModelPlugin;
    return await openBaseModel(plugin, { ...opening, before: record?.baseModel });
  };
  const noted = recorded === undefined && baseModel === undefined ? config["revision"] : undefined;
  try {
    return await openAt(checkpoint, typeof noted === "string" ? noted : undefined, open, onEvent);
  } catch (cause) {
    // Trained in another folder or on another machine.
    if (baseModel !== undefined || !(cause instanceof ConfigError) || cause.code !== "CHECKPOINT_NOT_FOUND")
      throw cause;
    throw new ModelError(
      "BASE_MODEL_NOT_FOUND",
      `${directory}: its base model, the folder ${checkpoint}, is not here`,
      {
        hint: "Name the base model's folder or hub id with --base-model.",
        cause,
      },
    );
  }
}

/**
 * The base at the revision that adapter_config.json notes. Some tools note the adapter's own there: a base that has no such
 * revision is taken as it stands, and that is said.
 */
async function openAt(
  checkpoint: string,
  noted: string | undefined,
  open: (revision: string | undefined) => Promise<BaseModel>,
  onEvent: RunListener | undefined,
): Promise<BaseModel> {
  if (noted === undefined) return open(undefined);
  try {
    return await open(noted);
  } catch (error) {
    const none = ["REVISION_OF_FOLDER", "HUB_REVISION_NOT_FOUND", "REVISION_INVALID"];
    if (!(error instanceof QloraError) || !none.includes(error.code)) throw error;
    const message = `adapter_config.json notes the revision ${JSON.stringify(noted)}, which ${checkpoint} does not have: taken for the adapter's own, the base is used as it stands`;
    onEvent?.({ type: "warning", message });
    return open(undefined);
  }
}

function withoutUndefined(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
}

/** The plugin that the run found by a package or a file; else the shipped one that reads the files; else by its name. */
async function adapterFrom(
  { config, directory, record }: TrainedAdapter,
  plugins: RecordedContext,
): Promise<AdapterPlugin> {
  const isReader = (factory: PluginFactory): factory is AdapterFactory =>
    factory.kind === "adapter" && "reads" in factory;
  const recorded = record?.config.adapter;
  const shipped = plugins.shipped.filter(isReader);
  const reader = recorded?.from === undefined ? shipped.find((factory) => factory.reads(config)) : undefined;
  const factory =
    reader !== undefined || recorded === undefined ? reader : await resolveRecorded("adapter", recorded, plugins);
  if (factory !== undefined && isReader(factory) && factory.reads(config)) return factory.fromConfig(config);
  throw new ModelError(
    "ADAPTER_UNKNOWN",
    `${directory}: ${factory === undefined ? "no adapter plugin reads" : `the adapter ${factory.name} does not read`} peft_type ${JSON.stringify(config["peft_type"])}`,
    {
      hint: `Shipped adapters: ${shipped.map(({ name }) => name).join(", ")}.`,
    },
  );
}

/** Settings of LoRA that are newer than this reader; undefined where there are none. */
function unknownSettings(config: TrainedAdapter["config"]): string | undefined {
  if (config["peft_type"] !== "LORA") return undefined;
  const { unknownKeys } = parseLoraConfig(config, ADAPTER_CONFIG_FILE, { dora: true });
  if (unknownKeys.length === 0) return undefined;
  const are = unknownKeys.length === 1 ? "is not known here and is" : "are not known here and are";
  return `${ADAPTER_CONFIG_FILE}: ${unknownKeys.join(", ")} ${are} passed over: where PEFT acts on it, results differ`;
}
