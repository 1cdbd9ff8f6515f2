/** What a server judges with: one base model on the GPU, a tokenizer, and the adapters that share them. */
import { basename, join, resolve } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { ADAPTER_WEIGHTS_FILE } from "../../core/formats/peft.ts";
import { requireFinite } from "../../core/formats/finite.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import type { ResolveContext } from "../../runtime/config/resolve.ts";
import type { Dataset } from "../../runtime/data/dataset.ts";
import type { DatasetTokenizer, TokenLengths } from "../../runtime/data/dataset-tokenizer.ts";
import type { PackLimits } from "../../runtime/data/pack.ts";
import type { RunListener } from "../../runtime/events.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { digestFile, isFolder } from "../../runtime/files/stat.ts";
import { findAdapter, type TrainedAdapter } from "../../runtime/folder/find-adapter.ts";
import { labelNamesOf } from "../../runtime/folder/label-names.ts";
import {
  type AdapterRun,
  type InferenceRequest,
  openAdapterRun,
  requestData,
} from "../../runtime/inference/adapter-run.ts";
import { openAdapterSession } from "../../runtime/inference/adapter-session.ts";
import { openServingTokenizer } from "../../runtime/run/data.ts";
import { inferenceSpecials } from "../../runtime/run/specials.ts";
import type { Session } from "../../runtime/session/session.ts";
import { readLogits } from "../../runtime/training/forward.ts";
import { tokenOptions } from "../partial-identity.ts";

/** An adapter by the name that requests give. */
export interface ServedAdapter {
  readonly name: string;
  readonly directory: string;
  /** Names of the classes; undefined where data without names trained it. */
  readonly labelNames: readonly string[] | undefined;
  /** sha256 of its weights. */
  readonly sha256: string;
}

/** Rows as token ids, and what truncation took. */
export interface JudgedTokens {
  readonly ids: readonly Uint32Array[];
  readonly lengths: TokenLengths;
}

/** A judge; hold it with `await using`. */
export interface Judge extends AsyncDisposable {
  readonly session: Session;
  /** As people know it. */
  readonly baseModel: string;
  readonly numLabels: number;
  readonly maxLength: number;
  readonly limits: PackLimits;
  /** The first one answers requests that name none. */
  readonly adapters: readonly ServedAdapter[];
  tokenize(dataset: Dataset): Promise<JudgedTokens>;
  /** Logits of rows, packed into one batch; one call at a time. */
  run(adapter: string, rows: readonly Uint32Array[]): Promise<readonly Float32Array[]>;
}

/** What one adapter needs of a judge, to be told apart from another's. */
interface Opened {
  readonly name: string;
  readonly adapter: TrainedAdapter;
  readonly run: AdapterRun;
}

/**
 * Opens a base model with one adapter or several.
 * @param request of the first adapter
 * @param runs folders of the others, which must fit the same base, head and settings
 * @throws ConfigError, ModelError, DeviceError
 */
export async function openJudge(
  request: InferenceRequest,
  runs: readonly string[],
  plugins: ResolveContext,
  onEvent?: RunListener,
): Promise<Judge> {
  const first = await openOne(request, plugins, onEvent);
  const others: Opened[] = [];
  for (const run of runs) others.push(await openOne({ ...request, run }, plugins, onEvent));
  for (const other of others) requireSame(first, other);
  const adapters = await Promise.all([first, ...others].map(describe));
  const twice = adapters.find(({ name }, i) => adapters.findIndex((other) => other.name === name) < i);
  if (twice !== undefined) {
    const message = `${twice.directory}: another adapter is called ${JSON.stringify(twice.name)} too`;
    throw new ConfigError("SERVE_NAME_TWICE", message, { hint: "Adapters are called by their folders: rename one." });
  }

  const { run, adapter } = first;
  const data = requestData(request, adapter.record?.config.data);
  const specials = inferenceSpecials(run.source.checkpoint, request.data, adapter);
  if (specials !== undefined) onEvent?.({ type: "info", message: specials.message });
  const tokenizer = await openServingTokenizer(run.source.checkpoint, run.vocabSize, data, specials, run.template);
  const opening = { values: adapter.directory, maxLength: data.maxLength, data: [], onEvent };
  const { session, limits } = await openAdapterSession(run, opening);
  try {
    const values = await loadValues(session, [first, ...others], request.allowNonFinite === true);
    return {
      session,
      // Of a folder the last part: where it lies is nobody's business.
      baseModel: isFolder(run.baseModel) ? basename(resolve(run.baseModel)) : run.baseModel,
      numLabels: run.numLabels,
      maxLength: data.maxLength,
      limits,
      adapters,
      tokenize: (dataset) => tokenizeRows(tokenizer, dataset),
      run: swapping(session, adapters, values),
      async [Symbol.asyncDispose]() {
        await tokenizer.close();
        session[Symbol.dispose]();
      },
    };
  } catch (error) {
    session[Symbol.dispose]();
    throw error;
  }
}

async function openOne(
  request: InferenceRequest,
  plugins: ResolveContext,
  onEvent: RunListener | undefined,
): Promise<Opened> {
  const adapter = await findAdapter(request.run, onEvent);
  const run = await openAdapterRun(request, adapter, plugins, onEvent);
  requireServable(request.run, run);
  return { name: basename(resolve(request.run)), adapter, run };
}

/** Answers are probabilities of classes, or one score. @throws ConfigError */
function requireServable(folder: string, { task: { task }, numLabels }: AdapterRun): void {
  if (task === "classification" || numLabels === 1) return;
  const message = `${folder}: its task is ${task} with ${numLabels} outputs, expected classes or one score`;
  throw new ConfigError("SERVE_TASK", message, { hint: "Predict its rows with qlora predict." });
}

async function describe({ name, adapter }: Opened): Promise<ServedAdapter> {
  const { directory } = adapter;
  const { sha256 } = await digestFile(join(directory, ADAPTER_WEIGHTS_FILE));
  return { name, directory, labelNames: labelNamesOf(adapter), sha256 };
}

/** What adapters that share a base on the GPU must have alike: only their values are exchanged. */
function requireSame(first: Opened, other: Opened): void {
  const facts = ({ adapter, run }: Opened): Record<string, unknown> => ({
    "base model": run.source.checkpoint,
    "number of classes": run.numLabels,
    "names of the classes": labelNamesOf(adapter) ?? null,
    adapter: { name: run.plugin.name, options: run.plugin.options },
    "data options": tokensOf(adapter),
  });
  const [want, got] = [facts(first), facts(other)];
  const odd = Object.keys(want).filter((key) => JSON.stringify(want[key]) !== JSON.stringify(got[key]));
  if (odd.length === 0) return;
  const [key] = odd as [string];
  const message =
    `${other.adapter.directory}: its ${key} is ${JSON.stringify(got[key])}, ` +
    `that of ${first.adapter.directory} is ${JSON.stringify(want[key])}`;
  throw new ConfigError("SERVE_ADAPTERS_DIFFER", message, {
    hint: "Adapters on one base must be of one kind: serve this one by a server of its own.",
  });
}

/** What of a run's record decides which ids a text becomes. */
function tokensOf({ record }: TrainedAdapter): unknown {
  const { softLabelColumns: _, swapAugment: __, ...rest } = tokenOptions(record?.config.data ?? {});
  return [rest, record?.specialTokens ?? null];
}

async function tokenizeRows(tokenizer: DatasetTokenizer, dataset: Dataset): Promise<JudgedTokens> {
  const tokens = await tokenizer.tokenize(dataset);
  const lengths = await tokens.done();
  return { ids: await tokens.ready(dataset.rows.map((_, i) => i)), lengths };
}

/** [slabs] values of each adapter on the GPU, where there are several. */
async function loadValues(
  { gpu, adapter, parameters }: Session,
  opened: readonly Opened[],
  allowNonFinite: boolean,
): Promise<readonly (readonly Tensor[])[]> {
  if (opened.length === 1) return [];
  const all: Tensor[][] = [];
  for (const [i, { adapter: trained }] of opened.entries()) {
    const values = await adapter.load(openFolder(trained.directory));
    if (!allowNonFinite) requireFinite(trained.directory, values);
    const copies = parameters.slabs.map(({ index, size, parameters: parts }) => {
      const copy = gpu.alloc([size], "f32", `adapter ${i} slab ${index}`, "adapter");
      const whole = new Float32Array(size);
      for (const { name, start } of parts) whole.set(values.get(name)!, start);
      gpu.write(copy, whole);
      return copy;
    });
    all.push(copies);
  }
  return all;
}

/** Exchanges the values of the adapter before a batch of another one. */
function swapping(
  session: Session,
  adapters: readonly ServedAdapter[],
  values: readonly (readonly Tensor[])[],
): Judge["run"] {
  const { gpu, parameters, numLabels } = session;
  let loaded = 0; // the session was opened with the first one's values
  return async (name, rows) => {
    const wanted = adapters.findIndex((adapter) => adapter.name === name);
    if (wanted !== loaded) {
      parameters.slabs.forEach(({ value }, i) => gpu.copyInto(values[wanted]![i]!, value, 0));
      loaded = wanted;
    }
    const logits = await readLogits(
      session,
      rows.map((inputIds, index) => ({ index, inputIds, label: undefined })),
    );
    return rows.map((_, i) => logits.slice(i * numLabels, (i + 1) * numLabels));
  };
}
