/** A model plugin's checkpoint brought to this machine, and the plugin that reads a checkpoint. */
import { ConfigError } from "../../core/errors.ts";
import { readModelConfig } from "../../core/formats/checkpoint.ts";
import type { PluginFactory } from "../../core/plugin/factory.ts";
import type { ModelFactory, ModelSpec, ModelPlugin, ModelLoader } from "../../core/plugin/model.ts";
import type { RunListener } from "../events.ts";
import { fileHost, openFolder } from "../files/folder.ts";
import { type RemoteHeaders, resolveModel, type ResolveOptions } from "../hub/index.ts";
import { checkBaseHeaders, checkRemoteHeaders } from "./base-headers.ts";

/** A model whose checkpoint is a folder here. */
export interface BaseModel {
  readonly source: ModelLoader;
  /** As the config names it, a folder or a hub id; PEFT's base_model_name_or_path. */
  readonly name: string;
  /** Commit of a hub model. */
  readonly sha: string | undefined;
}

/** How a checkpoint is looked for. */
export interface BaseModelOptions {
  /** `config` where no weights will be read; default `all`. */
  readonly part?: ResolveOptions["part"];
  /** False where no model is made of the weights: what they are quantized to as they are loaded is not told. Default true. */
  readonly loads?: boolean | undefined;
  readonly onEvent?: RunListener | undefined;
  readonly signal?: AbortSignal | undefined;
  /** What an earlier run used; its commit is used again where the config names no other revision. */
  readonly before?: { readonly name: string; readonly sha?: string | undefined } | undefined;
  /** Classes that the outline is made for; default 3. */
  readonly numLabels?: number | undefined;
  /** Judges the outline as soon as config.json is here; what it throws comes before any weights. */
  readonly onOutline?: ((outline: ModelSpec, name: string) => Promise<void>) | undefined;
}

/**
 * Makes a model's source. A plugin's option `checkpoint` may be a folder or a hub id (with an option `revision`); what
 * the source gets is always a folder. A plugin without such an option is made as it is.
 * @throws ConfigError, ModelError, QloraError as `resolveModel`
 */
export async function openBaseModel(plugin: ModelPlugin, options: BaseModelOptions = {}): Promise<BaseModel> {
  const { part, signal, onEvent, before } = options;
  const { checkpoint, revision } = plugin.options as { readonly checkpoint?: unknown; readonly revision?: unknown };
  if (typeof checkpoint !== "string") {
    const source = plugin.create(fileHost);
    return { source, name: source.checkpoint, sha: undefined };
  }
  const pinned = before?.name === checkpoint ? before.sha : undefined;
  const sourceIn = (directory: string): ModelLoader =>
    (directory === checkpoint ? plugin : plugin.factory.configure({ ...plugin.input, checkpoint: directory })).create(
      fileHost,
    );
  let outlined: ModelSpec | undefined;
  const judge = async (
    directory: string,
    known: "index" | "all",
    headers?: RemoteHeaders,
  ): Promise<readonly string[]> => {
    const outline = await sourceIn(directory).outline(options.numLabels ?? DEFAULT_LABELS);
    outlined = outline;
    await options.onOutline?.(outline, checkpoint);
    return headers === undefined ? checkBaseHeaders(directory, outline, known) : checkRemoteHeaders(headers, outline);
  };
  const { directory, sha } = await resolveModel(checkpoint, {
    revision: typeof revision === "string" ? revision : pinned,
    part,
    signal,
    onEvent,
    onFiles: async (folder, headers) => void (await judge(folder, "index", headers)),
    onProgress: (done, total) =>
      onEvent?.({ type: "progress", what: `downloading ${checkpoint}`, done, total, unit: "bytes" }),
  });
  const unread = await judge(directory, part === "config" ? "index" : "all");
  const told = part === "config" || options.loads === false ? undefined : quantizedOnLoad(checkpoint, outlined!);
  if (told !== undefined) onEvent?.({ type: "info", message: told });
  if (unread.length > 0 && part !== "config") onEvent?.({ type: "info", message: unreadTensors(checkpoint, unread) });
  return { source: sourceIn(directory), name: checkpoint, sha };
}

/** Classes of the notebook's task. */
const DEFAULT_LABELS = 3;

/** What becomes of a base in 16 bits; undefined where nothing does. */
function quantizedOnLoad(checkpoint: string, { baseParameters }: ModelSpec): string | undefined {
  const rows = baseParameters.filter(({ quantized }) => quantized !== undefined);
  const [first] = rows;
  if (first?.quantized === undefined) return undefined;
  const { quantType, blockSize, doubleQuant } = first.quantized;
  const blocks = blockSize === 64 ? "" : `, blocks of ${blockSize}`;
  const double = doubleQuant ? "with double quantization" : "without double quantization";
  return `${checkpoint}: ${rows.length} linears in ${first.dtype} are quantized to ${quantType} ${double}${blocks} as they are loaded (--quantization none keeps them)`;
}

function unreadTensors(checkpoint: string, unread: readonly string[]): string {
  const list = unread.length > 5 ? `${unread.slice(0, 5).join(", ")}, ...` : unread.join(", ");
  return `${checkpoint}: ${unread.length === 1 ? "a tensor that nothing reads" : `${unread.length} tensors that nothing reads`}: ${list}`;
}

const readsCheckpoints = (factory: PluginFactory): factory is ModelFactory =>
  factory.kind === "model" && "modelTypes" in factory;

/**
 * The model plugin that reads a checkpoint, by config.json's model_type.
 * @param checkpoint a folder or a hub id, of which config.json alone is fetched
 * @throws ConfigError where no plugin takes it; as `resolveModel`
 */
export async function modelForCheckpoint(
  checkpoint: string,
  factories: readonly PluginFactory[],
  options: Pick<ResolveOptions, "revision" | "onEvent"> = {},
): Promise<ModelFactory> {
  const { directory } = await resolveModel(checkpoint, { ...options, part: "config" });
  const { model_type: modelType } = await readModelConfig(openFolder(directory));
  const models = factories.filter(readsCheckpoints);
  const found = models.find(({ modelTypes }) => modelTypes.some((type) => type === modelType));
  if (found !== undefined) return found;
  const known = models.flatMap(({ modelTypes }) => modelTypes).join(", ") || "none";
  throw new ConfigError(
    "MODEL_TYPE_UNKNOWN",
    `${checkpoint}: config.json says model_type ${JSON.stringify(modelType)}, expected one of ${known}`,
    { hint: `Where a plugin reads it, name both: --model <plugin> --model.checkpoint ${checkpoint}.` },
  );
}
