/** What a trained adapter is run on: the rows, the base model, the plugin that reads it. */
import { join } from "node:path";
import { loadDataset, requireLabels, type Dataset } from "../data/dataset.ts";
import { ConfigError, ModelError } from "../errors.ts";
import type { RunListener } from "../events.ts";
import { ADAPTER_WEIGHTS_FILE, savedModuleKey } from "../formats/peft.ts";
import { openSafetensors } from "../formats/safetensors.ts";
import { type BaseModel, modelForCheckpoint, openBaseModel } from "../model/base-model.ts";
import { dataOptions, type DataOptions, type DataOptionsInput } from "../options/data-options.ts";
import { deviceOptions, type DeviceOptions } from "../options/device-options.ts";
import { showValue } from "../options/option-words.ts";
import { placementOptions } from "../options/placement-options.ts";
import { trainingOptions } from "../options/training-options.ts";
import type { MemorySettings } from "../planning/account.ts";
import type { GivenSettings } from "../planning/plan.ts";
import {
  type AdapterFactory,
  type AdapterPlugin,
  type ModelPlacement,
  type ModelPlugin,
  type ModelSource,
  settlePlacement,
} from "../plugin/kinds.ts";
import { checkRecorded, type RecordedContext, resolveRecorded } from "../plugin/recorded.ts";
import type { ResolveContext } from "../plugin/resolve.ts";
import type { PluginFactory } from "../plugin/value.ts";
import { loadEvaluationData } from "../run/data.ts";
import type { TrainedAdapter } from "../run/find-adapter.ts";

/** A trained adapter and the data to run it on. What is undefined is taken from the run's own record. */
export interface InferenceRequest {
  /** Output folder of a run, one of its checkpoints, or a PEFT adapter's folder. */
  readonly run: string;
  /** CSV or JSONL files; empty means the run's own evaluation data. */
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
  readonly keepDequantised?: boolean | undefined;
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
  keepDequantised: `${placementOptions.shape.keepDequantised.definition}?`,
  device: "object?",
  trustRemoteCode: "boolean?",
} as const;

/** How plugins that the run's record names are found. */
export const recordedContext = (
  { trustRemoteCode = false }: InferenceRequest,
  { directory }: TrainedAdapter,
  plugins: ResolveContext,
): RecordedContext => ({ ...plugins, run: directory, trust: trustRemoteCode });

/** Everything about a trained adapter that is known before a GPU is open. */
export interface AdapterRun {
  readonly source: ModelSource;
  /** The base model as the config or the adapter's files name it. */
  readonly baseModel: string;
  readonly plugin: AdapterPlugin;
  readonly numLabels: number;
  readonly vocabSize: number;
  readonly maxSamples: number;
  /** What the request and the model's options settle of memory. */
  readonly given: GivenSettings;
  /** The rest as the run's memory plan settled it, else all on the device, packed and uncut. */
  readonly settings: MemorySettings;
  /** Whether the run recorded a memory plan. */
  readonly planned: boolean;
  readonly device: DeviceOptions;
}

/** Finds, and where need be downloads, what an adapter is run on. @throws ConfigError, ModelError */
export async function openAdapterRun(
  request: InferenceRequest,
  adapter: TrainedAdapter,
  plugins: ResolveContext,
  onEvent: RunListener | undefined,
): Promise<AdapterRun> {
  const { record, notes } = adapter;
  for (const message of notes) onEvent?.({ type: "info", message });
  const context = recordedContext(request, adapter, plugins);
  // Before a base is fetched.
  for (const kind of ["model", "adapter"] as const)
    if (record !== undefined) checkRecorded(kind, record.config[kind], context);
  const { source, name } = await openAdapterBase(adapter, request, context, onEvent);
  const plugin = await adapterFrom(adapter, context);
  const numLabels = record?.data.numLabels ?? (await adapterLabels(adapter));
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
    numLabels,
    vocabSize,
    maxSamples,
    given: { checkpointing: "none", tokenBudget: request.tokenBudget, placement: source.placement },
    settings: {
      checkpointing: "none",
      tokenBudget: request.tokenBudget ?? planned?.tokenBudget ?? saved?.tokenBudget,
      ...settlePlacement(source.placement ?? { embeddings: undefined, keepDequantised: undefined }, planned),
    },
    planned: planned !== undefined,
    device,
  };
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
const OWN_ROWS = ["trainFiles", "evalFiles", "nSplits", "foldIdx", "foldBy"] as const;

/** The rows that the request names, else those that the run kept to evaluate on. @throws DataError, ConfigError */
export function requestRows(
  { files = [], data: asked = {} }: InferenceRequest,
  data: DataOptions,
  recorded: boolean,
  labelled: boolean,
): Dataset {
  if (files.length > 0) {
    const unused = OWN_ROWS.filter((key) => asked[key] !== undefined);
    if (unused.length > 0) {
      const problems = unused.map(
        (key) => `data.${key}: got ${showValue(asked[key])} with files, whose rows are all taken`,
      );
      throw new ConfigError("DATA_FILES_WHOLE", problems, {
        hint: "Leave it out; or leave the files out, for the rows that the run held out.",
      });
    }
    const rows = loadDataset(files, { format: data.format });
    return labelled ? requireLabels(rows) : rows;
  }
  if (recorded) return loadEvaluationData(data);
  throw new ConfigError(
    "DATA_NO_FILES",
    "no files are given, and the adapter's folder has no run.json that names any",
    {
      hint: "Name the CSV or JSONL files after the adapter.",
    },
  );
}

/** The base model that an adapter was trained on, at the same commit; or another one, where `baseModel` names it. */
async function openAdapterBase(
  { record, config, directory }: TrainedAdapter,
  { baseModel, embeddings, keepDequantised }: InferenceRequest,
  plugins: RecordedContext,
  onEvent: RunListener | undefined,
): Promise<BaseModel> {
  const recorded = record?.config.model;
  const options = withoutUndefined({
    ...recorded?.options,
    ...withoutUndefined({ embeddings, keepDequantised }),
  });
  if (recorded === undefined && typeof config["revision"] === "string") options["revision"] = config["revision"];
  if (baseModel !== undefined) delete options["revision"];
  const checkpoint = baseModel ?? options["checkpoint"] ?? config["base_model_name_or_path"];
  if (typeof checkpoint !== "string") {
    throw new ModelError("BASE_MODEL_UNKNOWN", `${directory}: adapter_config.json names no base model`, {
      hint: "Name its folder or hub id with --base-model.",
    });
  }
  const revision = options["revision"] as string | undefined;
  try {
    const factory =
      recorded === undefined
        ? await modelForCheckpoint(checkpoint, plugins.shipped, { revision, onEvent })
        : await resolveRecorded("model", recorded, plugins);
    const plugin = factory.configure({ ...options, checkpoint }) as ModelPlugin;
    return await openBaseModel(plugin, { onEvent, before: record?.baseModel });
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

/** Classes of an adapter without a run.json: rows of the score head that it saved. */
async function adapterLabels({ directory }: TrainedAdapter): Promise<number> {
  await using file = await openSafetensors(join(directory, ADAPTER_WEIGHTS_FILE));
  const name = savedModuleKey("score");
  const rows = file.tensors.get(name)?.shape[0];
  if (rows !== undefined) return rows;
  throw new ModelError("ADAPTER_HEAD_MISSING", `${file.path}: there is no tensor "${name}": the head was not saved`, {
    hint: "An adapter without its trained score head predicts at random; save it again with modules_to_save.",
  });
}
