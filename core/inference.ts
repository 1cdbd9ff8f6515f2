/** Evaluation and prediction with a trained adapter: from a run's folder, one of its checkpoints, or any PEFT adapter. */
import { type InferenceRequest, inferenceRequest, openAdapterRun, requestData, requestRows } from "./adapter-run.ts";
import { openAdapterSession } from "./adapter-session.ts";
import type { Dataset } from "./data/dataset.ts";
import { swapResponses } from "./data/swap.ts";
import type { Engine } from "./engine.ts";
import { ConfigError, DataError } from "./errors.ts";
import { computeLogits, logarithms, scoreLogits, softmaxRows } from "./evaluate.ts";
import type { RunListener } from "./events.ts";
import { requireKnownLabels } from "./labels.ts";
import type { MetricPlugin } from "./plugin.ts";
import { resolvePlugin, type ResolveContext } from "./plugin-resolve.ts";
import { applyPostProcess, checkPostProcess, type PostProcess, type PostProcessCount } from "./post-process.ts";
import { probabilityColumns, type ProbabilityRow, type ProbabilityTable, requireUniqueIds } from "./probabilities.ts";
import { defineRequest } from "./request.ts";
import { openRunTokeniser, reportCuts } from "./run-data.ts";
import { findAdapter, type RecordedPlugin, type TrainedAdapter } from "./run-record.ts";
import { averageSwapped } from "./tta.ts";

const TTA = "'none' | 'swap'?";

/** What `evaluate` gives. */
export interface EvaluateResult {
  readonly samples: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/** What `evaluate` is asked for beside the adapter and the data. */
export interface EvaluateRequest extends InferenceRequest {
  /**
   * "swap": score the mean of the probabilities of each arena row and of the same row with A and B exchanged (see
   * `predict`). `eval_loss` is then the mean of -log of the averaged probability of the label, and every metric is given
   * the logs of the averaged probabilities in the place of logits. Ids must be unique.
   */
  readonly tta?: "none" | "swap" | undefined;
}

/** What `predict` is asked for beside the adapter and the data. */
export interface PredictRequest extends InferenceRequest {
  /** Raw logits instead of probabilities. */
  readonly logits?: boolean | undefined;
  /** "swap": predict arena rows with A and B exchanged too, and average; ids must be unique. */
  readonly tta?: "none" | "swap" | undefined;
  /** Steps over the probabilities (averaged, with tta), in order. */
  readonly postProcess?: readonly PostProcess[] | undefined;
  /** Refuse data that cannot make a submission (not arena rows, ids that repeat) before anything is computed. */
  readonly submission?: boolean | undefined;
}

const checkEvaluate = defineRequest<EvaluateRequest>("evaluate", { ...inferenceRequest, tta: TTA });
const checkPredict = defineRequest<PredictRequest>("predict", {
  ...inferenceRequest,
  logits: "boolean?",
  tta: TTA,
  postProcess: "object[]?",
  submission: "boolean?",
});

/** What `predict` gives: rows in the order of the data. */
export interface PredictResult extends ProbabilityTable {
  /** Rows that each step of `postProcess` changed. */
  readonly postProcessed: readonly PostProcessCount[];
}

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
  request: EvaluateRequest,
  engine: Engine,
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<EvaluateResult> {
  checkEvaluate(request);
  const views: Views = { what: "evaluating", labelled: true, of: (rows) => inferenceViews(rows, request) };
  const { dataset, numLabels, values, adapter } = await inferenceLogits(request, engine, plugins, views, onEvent);
  const names: readonly RecordedPlugin[] = adapter.record?.config.metrics ?? [
    { name: "log-loss", options: {} },
    { name: "accuracy", options: {} },
  ];
  const metrics: MetricPlugin[] = [];
  for (const { name, options, from = name } of names)
    metrics.push((await resolvePlugin("metric", from, plugins)).configure(options) as MetricPlugin);
  const labels = dataset.rows.map((row) => row.label!);
  const logits =
    request.tta === "swap" ? logarithms(averagedRows(dataset, values, numLabels).map((row) => row.values)) : values[0]!;
  return { samples: labels.length, metrics: scoreLogits(logits, labels, numLabels, metrics) };
}

/** Probabilities (or logits) of every row, in row order. @throws QloraError of every kind */
export async function predictWithAdapter(
  request: PredictRequest,
  engine: Engine,
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<PredictResult> {
  const { logits = false, tta = "none", postProcess = [] } = checkPredict(request);
  if (logits && (tta === "swap" || request.submission === true || postProcess.length > 0)) {
    const message = "logits: got it together with tta, submission or postProcess, which are of probabilities";
    throw new ConfigError("PREDICT_LOGITS", message);
  }
  const views: Views = { what: "predicting", labelled: false, of: (rows) => inferenceViews(rows, request) };
  const { dataset, numLabels, values } = await inferenceLogits(request, engine, plugins, views, onEvent);
  const columns = probabilityColumns(dataset, numLabels);
  if (logits) return { columns, rows: tableOf(dataset, values[0]!, numLabels), postProcessed: [] };
  const { rows, counts } = applyPostProcess(postProcess, dataset.rows, averagedRows(dataset, values, numLabels));
  for (const { name, rows: changed } of counts) {
    onEvent?.({ type: "info", message: `post-process ${name}: changed ${changed} of ${rows.length} rows` });
  }
  return { columns, rows, postProcessed: counts };
}

/** Probabilities of every row: of the rows themselves, or the mean with those of the rows with A and B exchanged. */
function averagedRows(dataset: Dataset, views: readonly Float32Array[], numLabels: number): ProbabilityRow[] {
  const [plain, swapped] = views.map((view) => tableOf(dataset, softmaxRows(view, numLabels), numLabels));
  return swapped === undefined ? plain! : averageSwapped(plain!, swapped, dataset.files.join(", "));
}

/** @param values [rows, numLabels] */
function tableOf(dataset: Dataset, values: ArrayLike<number>, numLabels: number): ProbabilityRow[] {
  return dataset.rows.map(({ id }, i) => ({
    id,
    values: Array.from({ length: numLabels }, (_, c) => values[i * numLabels + c]!),
  }));
}

/** The rows, and with tta the rows with A and B exchanged. @throws DataError for rows that do not serve */
function inferenceViews(
  dataset: Dataset,
  { tta, submission, postProcess = [] }: Pick<PredictRequest, "tta" | "submission" | "postProcess">,
): readonly Dataset[] {
  checkPostProcess(postProcess, dataset.rows);
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
  const run = await openAdapterRun(request, adapter, plugins, onEvent);
  const { source, numLabels } = run;
  if (labelled) requireKnownLabels(dataset, numLabels);

  await using tokeniser = openRunTokeniser(source.checkpoint, run.vocabSize, data, onEvent);
  const tokens = await Promise.all(views.map((view) => tokeniser.tokenise(view)));
  const { maxLength } = data;
  const { session: opened, limits } = await openAdapterSession(run, engine, {
    values: adapter.directory,
    maxLength,
    data: tokens,
    onEvent,
  });
  using session = opened;
  const values: Float32Array<ArrayBuffer>[] = [];
  for (const [i, view] of tokens.entries()) {
    const label = i === 0 ? what : `${what}, A and B exchanged`;
    values.push(await computeLogits(session, engine, view, limits, label, onEvent));
  }
  await reportCuts({ input: tokens[0] }, data, onEvent);
  return { dataset, numLabels, values, adapter };
}
