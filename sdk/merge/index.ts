/** Merging a trained adapter into its base: the checkpoint that transformers loads, and what merging changed. */
import { ConfigError, ModelError } from "../../core/errors.ts";
import { readModelConfig } from "../../core/formats/checkpoint.ts";
import { defineRequest } from "../../core/options/request.ts";
import type { DataOptions } from "../../runtime/config/data-options.ts";
import type { ResolveContext } from "../../runtime/config/resolve.ts";
import type { Dataset } from "../../runtime/data/dataset.ts";
import type { InfoEvent, RunListener } from "../../runtime/events.ts";
import { writeFolderAtomic } from "../../runtime/files/files.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { findAdapter, type TrainedAdapter } from "../../runtime/folder/find-adapter.ts";
import { classesOf, labelNamesOf } from "../../runtime/folder/label-names.ts";
import {
  type InferenceRequest,
  inferenceRequest,
  openAdapterRun,
  requestData,
  requestRows,
} from "../../runtime/inference/adapter-run.ts";
import { adapterTask } from "../../runtime/inference/adapter-task.ts";
import { openRunTokenizer } from "../../runtime/run/data.ts";
import { inferenceSpecials } from "../../runtime/run/specials.ts";
import { checkEventOptions, type EventOptions } from "../../runtime/run/train-types.ts";
import { withFrozenValues } from "../../runtime/session/adapter-values.ts";
import { resolveContext } from "../shipped.ts";
import { type MergedFiles, type MergePlan, writeMergedCheckpoint } from "./checkpoint.ts";
import { type LogitDifference, measureDifference } from "./measure.ts";
import { checkApart, checkOutputFolder } from "./output-folder.ts";
import { choosePadding } from "./padding.ts";
import { tokenizerChanges, type TokenizerSettings } from "./tokenizer-settings.ts";

/** A trained adapter, where its merged model goes, and the rows to measure on. */
export interface MergeRequest extends InferenceRequest {
  /** A new or empty folder. */
  readonly outputDir: string;
  /** Replace a checkpoint that the folder holds; any other folder is refused. Default false. */
  readonly overwrite?: boolean | undefined;
  /** Most rows that the difference is measured on, from the first; 0 measures nothing. Default 20. */
  readonly rows?: number | undefined;
  /** Bytes after which another file begins; default 5 GB, as transformers' `save_pretrained`. */
  readonly maxShardSize?: number | undefined;
}

const check = defineRequest<MergeRequest>("merge", {
  ...inferenceRequest,
  outputDir: "string",
  overwrite: "boolean?",
  rows: "number.integer >= 0?",
  maxShardSize: "number >= 1?",
});

/** What `merge` gives. */
export interface MergeResult extends MergedFiles {
  readonly outputDir: string;
  /** Undefined where nothing was measured. */
  readonly difference: LogitDifference | undefined;
}

const DEFAULT_ROWS = 20;

/**
 * Writes the base model with an adapter merged into it as a bf16 checkpoint, and measures the difference of the logits.
 * @throws QloraError of every kind; PLUGIN errors where the adapter cannot be merged
 */
export async function mergeAdapter(
  request: MergeRequest,
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<MergeResult> {
  const { outputDir, overwrite = false, rows = DEFAULT_ROWS, maxShardSize } = check(request);
  await checkOutputFolder(outputDir, overwrite);
  const trained = await findAdapter(request.run, onEvent);
  const data = requestData(request, trained.record?.config.data);
  const dataset = rows === 0 ? undefined : await measuredRows(request, data, trained, rows);
  const run = await openAdapterRun(request, trained, plugins, onEvent);
  const { source, numLabels, baseModel } = run;
  checkApart(outputDir, "the adapter", trained.directory);
  checkApart(outputDir, "the base model", source.checkpoint);
  const outline = await source.outline(numLabels);
  const adapter = await run.plugin.create({ linears: outline.linears, head: outline.head, baseModel, seed: 0 });
  if (adapter.mergeWeight === undefined) {
    throw new ModelError("ADAPTER_NOT_MERGEABLE", `${request.run}: adapter ${run.plugin.name} cannot be merged`, {
      hint: "Its plugin has no mergeWeight: use the adapter unmerged.",
    });
  }
  const specials = inferenceSpecials(source.checkpoint, request.data, trained);
  const missing = await whatIsMissing(source.checkpoint, labelNamesOf(trained), specials);
  const plan = {
    ...missing.plan,
    base: source.checkpoint,
    outline,
    adapter,
    values: withFrozenValues(adapter, await adapter.load(openFolder(trained.directory))),
    numLabels,
    task: run.task.task,
    configChanges: source.configChanges ?? {},
    maxShardSize,
    allowNonFinite: run.allowNonFinite,
    onTensor: (done: number, total: number) => onEvent?.({ type: "progress", what: "merging tensors", done, total }),
  };
  let files: MergedFiles | undefined;
  await writeFolderAtomic(outputDir, async (folder) => {
    files = await writeMergedCheckpoint(folder, plan);
  });
  for (const event of missing.events) onEvent?.(event);
  if (dataset === undefined) return { outputDir, ...files!, difference: undefined };
  await using tokenizer = openRunTokenizer(source.checkpoint, run.vocabSize, data, specials, onEvent, run.template);
  const tokens = await tokenizer.tokenize(dataset);
  const folders = { adapter: trained.directory, merged: outputDir };
  const difference = await measureDifference(run, tokens, folders, data.maxLength, onEvent);
  return { outputDir, ...files!, difference };
}

/** What a classifier of transformers needs and the base lacks, and what is to be told of it. */
async function whatIsMissing(
  base: string,
  labelNames: readonly string[] | undefined,
  specials: TokenizerSettings["specials"],
): Promise<{ readonly plan: Pick<MergePlan, MissingParts>; readonly events: readonly InfoEvent[] }> {
  const padding = await choosePadding(base);
  const changes = await tokenizerChanges(base, { padding, specials });
  const { pad_token_id: own } = await readModelConfig(openFolder(base));
  const events: InfoEvent[] = [];
  const tell = (type: InfoEvent["type"], message: string): void => void events.push({ type, message });
  if (padding === undefined) {
    tell(
      "warning",
      "the base names no token to pad with, and none was found: transformers classifies one row at a time",
    );
  } else {
    const token = padding.token === undefined ? "" : ` (${padding.token})`;
    if (padding.id !== own) tell("info", `config.json: pad_token_id ${padding.id}${token}, by ${padding.by}`);
    if (padding.endsTexts && padding.id !== own && specials?.addEosToken !== false) {
      tell(
        "warning",
        `pad_token_id ${padding.id}${token} also ends texts: in a text that ends with it, transformers reads the class one token earlier than it was trained`,
      );
    }
  }
  if (labelNames !== undefined) tell("info", `config.json: id2label ${labelNames.join(", ")}`);
  for (const [key, value] of Object.entries(changes)) tell("info", `tokenizer_config.json: ${key} ${String(value)}`);
  return { plan: { padding, labelNames, tokenizerChanges: changes }, events };
}

type MissingParts = "padding" | "labelNames" | "tokenizerChanges";

async function measuredRows(
  request: MergeRequest,
  data: DataOptions,
  trained: TrainedAdapter,
  rows: number,
): Promise<Dataset> {
  const { files = [] } = request;
  const { options: task } = await adapterTask(trained, request);
  const recorded = trained.record !== undefined;
  if (files.length === 0 && (!recorded || (data.evalFiles.length === 0 && data.nSplits === undefined))) {
    throw new ConfigError("DATA_NO_FILES", "there are no rows to measure on: the run kept none to evaluate on", {
      hint: "Name a file of rows after the run, or measure nothing with --rows 0.",
    });
  }
  const dataset = await requestRows(request, data, recorded, { labelled: false, labelNames: classesOf(trained), task });
  return { ...dataset, rows: dataset.rows.slice(0, rows) };
}

/**
 * Writes the base model with a trained adapter merged into it as a bf16 checkpoint that transformers loads, and measures
 * how far its logits are from those of the adapter on the 4-bit base.
 * @throws QloraError of every kind
 * @example const { difference } = await merge({ run, outputDir: `${outputDir}/merged` });
 */
export async function merge(request: MergeRequest, options: EventOptions = {}): Promise<MergeResult> {
  const { onEvent } = checkEventOptions(options);
  return mergeAdapter(request, resolveContext(), onEvent);
}
