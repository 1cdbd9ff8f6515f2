/** Evaluation and prediction with a trained adapter: from a run's folder, one of its checkpoints, or any PEFT adapter. */
import { join } from "node:path";
import { dataOptions, type DataOptions, type DataOptionsInput } from "./data-options.ts";
import { loadDataset, requireLabels, type Dataset } from "./data/dataset.ts";
import { swapResponses } from "./data/swap.ts";
import { deviceOptions, type DeviceOptions } from "./device-options.ts";
import type { Engine } from "./engine.ts";
import { ConfigError, DataError, ModelError } from "./errors.ts";
import { computeLogits, scoreLogits, softmaxRows } from "./evaluate.ts";
import type { RunListener } from "./events.ts";
import { ADAPTER_WEIGHTS_FILE, savedModuleKey } from "./peft.ts";
import { type BaseModel, modelForCheckpoint, openBaseModel } from "./base-model.ts";
import type { AdapterFactory, AdapterPlugin, MetricPlugin, ModelPlugin } from "./plugin.ts";
import { resolvePlugin, type ResolveContext } from "./plugin-resolve.ts";
import { ARENA_PROBABILITIES, type ProbabilityRow, type ProbabilityTable, requireUniqueIds } from "./probabilities.ts";
import { loadEvaluationData, openRunTokeniser, reportCuts } from "./run-data.ts";
import { findAdapter, type TrainedAdapter } from "./run-record.ts";
import { openSafetensors } from "./safetensors.ts";
import { openSession } from "./session.ts";
import { trainingOptions } from "./training-options.ts";
import { averageSwapped } from "./tta.ts";

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
  readonly tokenBudget?: number | undefined;
  readonly device?: Partial<DeviceOptions> | undefined;
}

/** What `evaluate` gives. */
export interface EvaluateResult {
  readonly samples: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/** What `predict` is asked for beside the adapter and the data. */
export interface PredictRequest extends InferenceRequest {
  /** Raw logits instead of probabilities. */
  readonly logits?: boolean | undefined;
  /** "swap": predict arena rows with A and B exchanged too, and average; ids must be unique. */
  readonly tta?: "none" | "swap" | undefined;
  /** Refuse data that cannot make a submission (not arena rows, ids that repeat) before anything is computed. */
  readonly submission?: boolean | undefined;
}

/** What `predict` gives: rows in the order of the data. */
export type PredictResult = ProbabilityTable;

interface Logits {
  readonly dataset: Dataset;
  readonly numLabels: number;
  /** [rows, numLabels] of each view of the data, in row order. */
  readonly values: readonly Float32Array<ArrayBuffer>[];
  readonly adapter: TrainedAdapter;
}

/** What is computed: the rows themselves, or more views of the same rows. */
interface Views {
  readonly what: string;
  readonly labelled: boolean;
  /** Views of the data to run, in order. @throws DataError, ConfigError where the data does not serve */
  readonly of: (dataset: Dataset) => readonly Dataset[];
}

/** Metrics of a trained adapter on labelled data. @throws QloraError of every kind */
export async function evaluateAdapter(
  request: InferenceRequest,
  engine: Engine,
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<EvaluateResult> {
  const views: Views = { what: "evaluating", labelled: true, of: (rows) => [rows] };
  const { dataset, numLabels, values, adapter } = await inferenceLogits(request, engine, plugins, views, onEvent);
  const names = adapter.record?.config.metrics ?? [
    { name: "log-loss", options: {} },
    { name: "accuracy", options: {} },
  ];
  const metrics: MetricPlugin[] = [];
  for (const { name, options } of names)
    metrics.push((await resolvePlugin("metric", name, plugins)).configure(options) as MetricPlugin);
  const labels = dataset.rows.map((row) => row.label!);
  return { samples: labels.length, metrics: scoreLogits(values[0]!, labels, numLabels, metrics) };
}

/** Probabilities (or logits) of every row, in row order. @throws QloraError of every kind */
export async function predictWithAdapter(
  request: PredictRequest,
  engine: Engine,
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<PredictResult> {
  const { logits = false, tta = "none" } = request;
  if (logits && (tta === "swap" || request.submission === true)) {
    throw new ConfigError("PREDICT_LOGITS", "logits: got it together with tta or submission, which are probabilities");
  }
  const views: Views = { what: "predicting", labelled: false, of: (rows) => predictViews(rows, request) };
  const { dataset, numLabels, values } = await inferenceLogits(request, engine, plugins, views, onEvent);
  const arena = dataset.rows.some((row) => row.kind === "arena");
  const columns = arena ? ARENA_PROBABILITIES : Array.from({ length: numLabels }, (_, i) => `label_${i}`);
  const tables = values.map((view): ProbabilityRow[] => {
    const shown: ArrayLike<number> = logits ? view : softmaxRows(view, numLabels);
    return dataset.rows.map(({ id }, i) => ({ id, values: columns.map((_, c) => shown[i * numLabels + c]!) }));
  });
  const [plain, swapped] = tables;
  const rows = swapped === undefined ? plain! : averageSwapped(plain!, swapped, dataset.files.join(", "));
  return { columns, rows };
}

function predictViews(dataset: Dataset, { tta, submission }: PredictRequest): readonly Dataset[] {
  if (tta !== "swap" && submission !== true) return [dataset];
  const other = dataset.rows.find((row) => row.kind !== "arena");
  if (other !== undefined) {
    const what = submission === true ? "a submission needs" : "tta swap needs";
    throw new DataError("DATA_NOT_ARENA", `${what} arena rows, this one is ${other.kind}`, other, {
      hint: "Arena files have the columns prompt, response_a and response_b.",
    });
  }
  requireUniqueIds(dataset);
  return tta === "swap" ? [dataset, swapResponses(dataset)] : [dataset];
}

async function inferenceLogits(
  request: InferenceRequest,
  engine: Engine,
  plugins: ResolveContext,
  { what, labelled, of }: Views,
  onEvent: RunListener | undefined,
): Promise<Logits> {
  const adapter = await findAdapter(request.run);
  const { record } = adapter;
  const data = requestData(request, record?.config.data);
  const dataset = requestRows(request, data, record !== undefined, labelled);
  const views = of(dataset);
  const { source } = await openAdapterBase(adapter, request.baseModel, plugins, onEvent);
  const adapterPlugin = adapterFrom(adapter, plugins);
  const numLabels = record?.data.numLabels ?? (await adapterLabels(adapter));
  const { vocabSize } = await source.outline(numLabels);
  const saved = record === undefined ? undefined : trainingOptions.parse(record.config.training, "run.json training");
  const maxTokens = request.tokenBudget ?? saved?.tokenBudget ?? Infinity;
  const maxSamples =
    request.perDeviceEvalBatchSize ?? saved?.perDeviceEvalBatchSize ?? trainingOptions.parse({}).perDeviceEvalBatchSize;

  await using tokeniser = openRunTokeniser(source.checkpoint, vocabSize, data);
  const tokens = await Promise.all(views.map((view) => tokeniser.tokenise(view)));
  const device = deviceOptions.parse({ ...request.device }, "device");
  using session = await openSession({
    source,
    adapter: adapterPlugin,
    device,
    numLabels,
    seed: 0,
    initAdapter: adapter.directory,
    onEvent,
  });
  const values: Float32Array<ArrayBuffer>[] = [];
  for (const [i, view] of tokens.entries()) {
    const label = i === 0 ? what : `${what}, A and B exchanged`;
    values.push(await computeLogits(session, engine, view, { maxTokens, maxSamples }, label, onEvent));
  }
  await reportCuts({ input: tokens[0] }, data, onEvent);
  return { dataset, numLabels, values, adapter };
}

function requestData(request: InferenceRequest, recorded: Readonly<Record<string, unknown>> | undefined): DataOptions {
  const given = Object.entries(request.data ?? {}).filter(([, value]) => value !== undefined);
  return dataOptions.parse({ ...recorded, ...Object.fromEntries(given) }, "data");
}

function requestRows(
  { files = [] }: InferenceRequest,
  data: DataOptions,
  recorded: boolean,
  labelled: boolean,
): Dataset {
  if (files.length > 0) {
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
  baseModel: string | undefined,
  plugins: ResolveContext,
  onEvent: RunListener | undefined,
): Promise<BaseModel> {
  const recorded = record?.config.model;
  const options = { ...withoutUndefined(recorded?.options ?? {}) };
  if (recorded === undefined && typeof config["revision"] === "string") options["revision"] = config["revision"];
  if (baseModel !== undefined) delete options["revision"];
  const checkpoint = baseModel ?? options["checkpoint"] ?? config["base_model_name_or_path"];
  if (typeof checkpoint !== "string") {
    throw new ModelError("BASE_MODEL_UNKNOWN", `${directory}: adapter_config.json names no base model`, {
      hint: "Name its folder or hub id with --base-model.",
    });
  }
  const revision = options["revision"] as string | undefined;
  const factory =
    recorded === undefined
      ? await modelForCheckpoint(checkpoint, plugins.shipped, { revision, onEvent })
      : await resolvePlugin("model", recorded.name, plugins);
  const plugin = factory.configure({ ...options, checkpoint }) as ModelPlugin;
  return openBaseModel(plugin, { onEvent, before: record?.baseModel });
}

function withoutUndefined(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
}

function adapterFrom({ config, directory }: TrainedAdapter, { shipped }: ResolveContext): AdapterPlugin {
  const factories = shipped.filter(
    (factory): factory is AdapterFactory => factory.kind === "adapter" && "reads" in factory,
  );
  const found = factories.find((factory) => factory.reads(config));
  if (found !== undefined) return found.fromConfig(config);
  throw new ModelError(
    "ADAPTER_UNKNOWN",
    `${directory}: no adapter plugin reads peft_type ${JSON.stringify(config["peft_type"])}`,
    {
      hint: `Shipped adapters: ${factories.map((factory) => factory.name).join(", ")}.`,
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
