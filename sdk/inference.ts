/** Evaluation and prediction with a trained adapter: from a run's folder, one of its checkpoints, or any PEFT adapter. */
import { join } from "node:path";
import { ConfigError } from "../core/errors.ts";
import { ADAPTER_WEIGHTS_FILE } from "../core/formats/peft.ts";
import { defineRequest } from "../core/options/request.ts";
import type { MetricPlugin } from "../core/plugin/metric.ts";
import type { Task } from "../core/plugin/task.ts";
import { version } from "../core/util/version.ts";
import { resolveRecorded } from "../runtime/config/recorded.ts";
import type { ResolveContext } from "../runtime/config/resolve.ts";
import { TASK_METRICS } from "../runtime/config/task-options.ts";
import type { TokenizedDataset } from "../runtime/data/dataset-tokenizer.ts";
import type { Dataset } from "../runtime/data/dataset.ts";
import { arena } from "../runtime/data/formats/arena.ts";
import type { DataFormat } from "../core/plugin/data-format.ts";
import { fixedClasses, requireFormat } from "../runtime/data/formats/index.ts";
import { requireClasses, requireKnownLabels } from "../runtime/data/labels.ts";
import { isText } from "../runtime/data/row.ts";
import { sharedTokenizer } from "../runtime/data/shared-tokens.ts";
import { canSwap, swapResponses } from "../runtime/data/swap.ts";
import { requireAlike } from "../runtime/distributed/agree.ts";
import { openWorld } from "../runtime/distributed/index.ts";
import { firstOfHost, fromFirst, type World } from "../runtime/distributed/world.ts";
import type { RunListener } from "../runtime/events.ts";
import { digestFile } from "../runtime/files/stat.ts";
import { findAdapter, type TrainedAdapter } from "../runtime/folder/find-adapter.ts";
import { classesOf, labelNamesOf } from "../runtime/folder/label-names.ts";
import type { RecordedPlugin } from "../runtime/folder/record.ts";
import {
  type InferenceRequest,
  inferenceRequest,
  openAdapterRun,
  recordedContext,
  requestData,
  requestRows,
} from "../runtime/inference/adapter-run.ts";
import { openAdapterSession } from "../runtime/inference/adapter-session.ts";
import { adapterTask } from "../runtime/inference/adapter-task.ts";
import { averageSwapped } from "../runtime/inference/tta.ts";
import { openRunTokenizer, reportTruncation } from "../runtime/run/data.ts";
import { inferenceSpecials } from "../runtime/run/specials.ts";
import type { EventOptions } from "../runtime/run/train-types.ts";
import { computeLogits, logProbabilities, scoreLogits } from "../runtime/training/evaluate.ts";
import { taskKinds } from "../runtime/training/tasks/index.ts";
import type { TaskKind } from "../runtime/training/tasks/task.ts";
import { requireValues } from "../runtime/training/tasks/values.ts";
import { digest, identityOf } from "./partial-identity.ts";
import { PartialLogits } from "./partial.ts";
import { applyPostProcess, type PostProcess, type PostProcessCount } from "./post-process.ts";
import {
  outputColumns,
  type ProbabilityRow,
  type ProbabilityTable,
  requireFinite,
  requireUniqueIds,
} from "./probabilities.ts";

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
  /**
   * Keeps what is done in this file, batch by batch, so that a prediction that was killed goes on from there. It is as long as
   * the rows; remove it once the result is kept.
   */
  readonly partialFile?: string | undefined;
  /** Go on from what `partialFile` has. */
  readonly resume?: boolean | undefined;
}

/** How an evaluation or a prediction is watched and stopped. */
export interface InferenceOptions extends EventOptions {
  /** Aborting finishes the batch under way, and throws QloraError INTERRUPTED. */
  readonly signal?: AbortSignal | undefined;
}

/** @throws ConfigError */
export const checkInferenceOptions = defineRequest<InferenceOptions>("options", {
  onEvent: "Function?",
  signal: "object?",
});

const checkEvaluate = defineRequest<EvaluateRequest>("evaluate", { ...inferenceRequest, tta: TTA });
const checkPredict = defineRequest<PredictRequest>("predict", {
  ...inferenceRequest,
  logits: "boolean?",
  tta: TTA,
  postProcess: "object[]?",
  submission: "boolean?",
  partialFile: "string?",
  resume: "boolean?",
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
}

/** What is computed: the rows themselves, or more views of the same rows. */
interface Views {
  readonly what: string;
  readonly labelled: boolean;
  /** What needs certain formats, and their classes. */
  readonly needs: readonly FormatNeed[];
  /** Where what is done is kept; undefined: nowhere. */
  readonly partial?: Pick<PredictRequest, "partialFile" | "resume"> | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Views of the data to run, in order. @throws DataError, ConfigError where the data does not serve */
  readonly of: (dataset: Dataset) => readonly Dataset[];
}

/** Metrics of a trained adapter on labelled data. @throws QloraError of every kind */
export async function evaluateAdapter(
  request: EvaluateRequest,
  plugins: ResolveContext,
  { onEvent, signal }: InferenceOptions = {},
): Promise<EvaluateResult> {
  checkEvaluate(request);
  const of = (rows: Dataset): readonly Dataset[] => inferenceViews(rows, request);
  const views: Views = { what: "evaluating", labelled: true, needs: formatNeeds(request), signal, of };
  const adapter = await findAdapter(request.run, onEvent);
  const { options: task } = await adapterTask(adapter, request);
  const kind = taskKinds[task.task];
  requireClassesFor(request, task.task);
  const names: readonly RecordedPlugin[] =
    adapter.record?.config.metrics ?? TASK_METRICS[task.task].map((name) => ({ name, options: {} }));
  const metrics: MetricPlugin[] = [];
  const context = recordedContext(request, adapter, plugins);
  for (const named of names)
    metrics.push((await resolveRecorded("metric", named, context)).configure(named.options) as MetricPlugin);
  const { dataset, numLabels, values } = await inferenceLogits(request, adapter, plugins, views, onEvent);
  const logits =
    request.tta === "swap"
      ? logProbabilities(averagedRows(dataset, values, numLabels, kind).map((row) => row.values))
      : values[0]!;
  const scored = kind.score(logits, dataset.rows, numLabels);
  return {
    samples: dataset.rows.length / kind.rowsPerSample,
    metrics: scoreLogits(scored, metrics, kind, dataset.rows),
  };
}

/** Probabilities (or logits) of every row, in row order. @throws QloraError of every kind */
export async function predictWithAdapter(
  request: PredictRequest,
  plugins: ResolveContext,
  { onEvent, signal }: InferenceOptions = {},
): Promise<PredictResult> {
  const { logits = false, tta = "none", postProcess = [] } = checkPredict(request);
  if (logits && (tta === "swap" || request.submission === true || postProcess.length > 0)) {
    const message = "logits: got it together with tta, submission or postProcess, which are of probabilities";
    throw new ConfigError("PREDICT_LOGITS", message);
  }
  const of = (rows: Dataset): readonly Dataset[] => inferenceViews(rows, request);
  if (request.resume === true && request.partialFile === undefined)
    throw new ConfigError("PREDICT_RESUME", "resume: got it without partialFile, the file to go on from");
  const views: Views = {
    what: "predicting",
    labelled: false,
    needs: formatNeeds(request),
    partial: request,
    signal,
    of,
  };
  const adapter = await findAdapter(request.run, onEvent);
  const { options: task } = await adapterTask(adapter, request);
  const kind = taskKinds[task.task];
  requireClassesFor(request, task.task);
  const { dataset, numLabels, values } = await inferenceLogits(request, adapter, plugins, views, onEvent);
  const columns = outputColumns(task.task, dataset, numLabels, labelNamesOf(adapter));
  if (logits) return { columns, rows: tableOf(dataset, values[0]!, numLabels), postProcessed: [] };
  const { rows, counts } = applyPostProcess(postProcess, dataset.rows, averagedRows(dataset, values, numLabels, kind));
  for (const { name, rows: changed } of counts) {
    onEvent?.({ type: "info", message: `post-process ${name}: changed ${changed} of ${rows.length} rows` });
  }
  if (request.submission === true) requireFinite({ columns, rows }, "the submission");
  return { columns, rows, postProcessed: counts };
}

/** What needs the classes of a classifier. @throws ConfigError */
function requireClassesFor({ tta, submission, postProcess = [] }: FormatRequest, task: Task): void {
  if (task === "classification") return;
  const problems = [
    ...(tta === "swap" ? ["tta: got swap"] : []),
    ...(submission === true ? ["submission: got it"] : []),
    ...postProcess.map(({ name }) => `postProcess: got ${name}`),
  ].map((got) => `${got} for the task ${task}, which has no classes`);
  if (problems.length > 0) throw new ConfigError("PREDICT_TASK", problems, { hint: "Predict without it." });
}

/** Predictions of every row: of the rows themselves, or the mean with those of the rows with their responses exchanged. */
function averagedRows(
  dataset: Dataset,
  views: readonly Float32Array[],
  numLabels: number,
  kind: TaskKind,
): ProbabilityRow[] {
  const [plain, swapped] = views.map((view) => tableOf(dataset, kind.predictions(view, numLabels), numLabels));
  if (swapped === undefined) return plain!;
  return averageSwapped(plain!, swapped, fixedClasses(dataset.rows)!.mirror!.labels, dataset.files.join(", "));
}

/** @param values [rows, numLabels] */
function tableOf(dataset: Dataset, values: ArrayLike<number>, numLabels: number): ProbabilityRow[] {
  return dataset.rows.map(({ id }, i) => ({
    id,
    values: Array.from({ length: numLabels }, (_, c) => values[i * numLabels + c]!),
  }));
}

type FormatRequest = Pick<PredictRequest, "tta" | "submission" | "postProcess">;

/** A part of a request that not every format serves, and whether it needs each class of one that does. */
interface FormatNeed {
  readonly part: string;
  readonly serves: (format: DataFormat) => boolean;
  readonly all: boolean;
}

function formatNeeds({ tta, submission, postProcess = [] }: FormatRequest): FormatNeed[] {
  const needs: FormatNeed[] = [];
  if (submission === true)
    needs.push({ part: "a submission", serves: ({ classes }) => classes !== undefined, all: false });
  for (const { name, arenaOnly } of postProcess)
    if (arenaOnly === true) needs.push({ part: name, serves: (format) => format.name === arena.name, all: true });
  if (tta === "swap") needs.push({ part: "tta swap", serves: canSwap, all: false });
  return needs;
}

/** The rows, and with tta the rows with their responses exchanged. @throws DataError for rows that do not serve */
function inferenceViews(dataset: Dataset, request: FormatRequest): readonly Dataset[] {
  for (const { part, serves } of formatNeeds(request)) requireFormat(dataset.rows, part, serves);
  if (request.tta === "swap" || request.submission === true) requireUniqueIds(dataset);
  return request.tta === "swap" ? [dataset, swapResponses(dataset)] : [dataset];
}

/** What is to be known of logits before anybody trusts them; undefined where all are finite. */
function notFinite({ rows }: Dataset, values: Logits["values"], numLabels: number): string | undefined {
  const broken = rows.filter((_, i) =>
    values.some((view) => !view.subarray(i * numLabels, (i + 1) * numLabels).every(Number.isFinite)),
  );
  const [first] = broken;
  if (first === undefined) return undefined;
  return (
    `${broken.length} of ${rows.length} rows have logits that are not finite, the first is ${first.file}:${first.line}; ` +
    "their numbers say nothing. Where --tier f32 gives the same, the adapter itself is broken: take an earlier checkpoint"
  );
}

/** All rows of a prediction before this one, which rank 0 has kept; nothing where some are missing. */
async function wholeOf(
  world: World,
  kept: PartialLogits | undefined,
  views: number,
): Promise<Float32Array<ArrayBuffer>[]> {
  const whole = kept?.whole;
  const waiting = { what: "the rows that are done" };
  if (!(await fromFirst(world, waiting, () => whole !== undefined))) return [];
  if (world.size === 1) return whole!;
  const values: Float32Array<ArrayBuffer>[] = [];
  for (let view = 0; view < views; view++) {
    const bytes = await world.broadcast(whole && new Uint8Array(whole[view]!.buffer), waiting);
    values.push(new Float32Array(bytes.buffer));
  }
  return values;
}

async function inferenceLogits(
  request: InferenceRequest,
  adapter: TrainedAdapter,
  plugins: ResolveContext,
  { what, labelled, needs, partial, signal, of }: Views,
  listener: RunListener | undefined,
): Promise<Logits> {
  const world = await openWorld();
  const onEvent = world.rank === 0 ? listener : undefined;
  const { record } = adapter;
  const data = requestData(request, record?.config.data);
  const { options: task } = await adapterTask(adapter, request);
  const reading = { labelled, labelNames: classesOf(adapter), task };
  const dataset = await requestRows(request, data, record !== undefined, reading);
  const views = of(dataset);
  const run = await firstOfHost(world, "the base model on each host", () =>
    openAdapterRun(request, adapter, plugins, onEvent),
  );
  if (world.size > 1) {
    const { sha256: weights } = await digestFile(join(adapter.directory, ADAPTER_WEIGHTS_FILE));
    const same = { qlora: version, weights, config: digest(adapter.config) };
    await requireAlike(world, "the adapter", same, "Give every host the same adapter and the same qlora.");
  }
  const { source, numLabels } = run;
  if (labelled) requireKnownLabels(dataset, numLabels);
  if (labelled) requireValues(dataset.rows, numLabels);
  const known = { numLabels, names: labelNamesOf(adapter), recorded: record !== undefined };
  for (const { part, all } of needs) requireClasses(dataset, part, request.run, known, all);

  const specials = inferenceSpecials(source.checkpoint, request.data, adapter);
  if (specials !== undefined && dataset.rows.some(isText)) onEvent?.({ type: "info", message: specials.message });
  await using own = openRunTokenizer(source.checkpoint, run.vocabSize, data, specials, onEvent, run.template);
  const tokenizer = sharedTokenizer(world, own);
  const tokens: TokenizedDataset[] = [];
  for (const view of views) tokens.push(await tokenizer.tokenize(view)); // in turn: ranks meet over each
  const { maxLength } = data;
  const { addBosToken, addEosToken } = specials ?? data;
  const rows = dataset.rows.length;
  await using kept =
    partial?.partialFile === undefined || world.rank !== 0
      ? undefined
      : await PartialLogits.open({
          path: partial.partialFile,
          resume: partial.resume === true,
          identity: await identityOf(adapter, run, dataset, { ...data, addBosToken, addEosToken }),
          rows,
          numLabels,
          views: views.length,
          onEvent,
        });
  const values = await wholeOf(world, kept, views.length);
  if (values.length === 0) {
    const opening = { values: adapter.directory, maxLength, data: tokens, onEvent, world };
    const { session: opened, limits } = await openAdapterSession(run, opening);
    using session = opened;
    for (const [i, view] of tokens.entries()) {
      const label = i === 0 ? what : `${what}, A and B exchanged`;
      const options = { kept: kept?.view(i), signal, world };
      values.push(await computeLogits(session, view, limits, label, onEvent, options));
    }
  }
  const odd = notFinite(dataset, values, numLabels);
  if (odd !== undefined) onEvent?.({ type: "warning", message: odd });
  await reportTruncation({ input: tokens[0] }, data, onEvent);
  return { dataset, numLabels, values };
}
