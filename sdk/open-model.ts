/** A model with its adapter, opened to be looked into: logits and hidden states of texts, outside any run. */
import type { Tensor } from "../core/device/tensor.ts";
import { ConfigError, QloraError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import { type Config, requireConfig } from "../runtime/config/config.ts";
import { openDatasetTokenizer } from "../runtime/data/dataset-tokenizer.ts";
import { type Sample } from "../runtime/data/pack.ts";
import type { RunListener } from "../runtime/events.ts";
import { checkAdapterFolder } from "../runtime/run/resume.ts";
import { trainingSpecials } from "../runtime/run/specials.ts";
import { adapterFolder } from "../runtime/hub/index.ts";
import { openBaseModel } from "../runtime/session/base-model.ts";
import { openSession, type Session } from "../runtime/session/session.ts";
import { forwardPass, readLogits } from "../runtime/training/forward.ts";
import { labelsOf } from "./inspect.ts";

/** How a model is opened. */
export interface OpenModelOptions {
  /** Folder of a trained adapter (a run, a checkpoint, PEFT's); without it the config's adapter has its first values. */
  readonly adapter?: string | undefined;
  readonly onEvent?: RunListener | undefined;
}

const check = defineRequest<OpenModelOptions>("openModel", { adapter: "string?", onEvent: "Function?" });

/** A model on the GPU; hold it with `using`, or `await using`. */
export interface OpenedModel extends Disposable, AsyncDisposable {
  /** GPU, parameters, model and adapter, for what the methods here do not give. */
  readonly session: Session;
  /** Token ids of texts, specials added and cut to `data.maxLength` as in training. @throws ModelError */
  encode(texts: readonly string[]): Promise<readonly Uint32Array[]>;
  /** Logits of token ids packed into one batch, [L] for each sample. */
  logits(ids: readonly Uint32Array[]): Promise<readonly Float32Array[]>;
  /**
   * Hidden states after `block`, [T,C] row-major for each sample of T tokens; 0 is the embedding's output, as in
   * transformers' `output_hidden_states`; the last one is taken before the final norm.
   * @throws ConfigError where the model has no such block
   */
  hiddenStates(ids: readonly Uint32Array[], block: number): Promise<readonly Float32Array[]>;
}

/**
 * Opens a config's model with its adapter, to read logits and hidden states of texts.
 * @throws ConfigError, DataError, ModelError, DeviceError
 * @example
 * using model = await openModel(config);
 * const [states] = await model.hiddenStates(await model.encode(["What colour is the sky?"]), 2);
 */
export async function openModel(config: Config, options: OpenModelOptions = {}): Promise<OpenedModel> {
  requireConfig(config);
  const { adapter, onEvent } = check(options);
  const named = adapter ?? config.training.initAdapter;
  if (named !== undefined) {
    checkAdapterFolder(adapter === undefined ? "training.initAdapter" : "adapter", named);
  }
  const initAdapter = named === undefined ? undefined : await adapterFolder(named, onEvent);
  const { source, name: baseModel } = await openBaseModel(config.model, { onEvent });
  const numLabels = await labelsOf(config, source);
  const { vocabSize } = await source.outline(numLabels);
  const session = await openSession({
    source,
    baseModel,
    adapter: config.adapter,
    device: config.device,
    numLabels,
    seed: config.training.seed,
    initAdapter,
    allowNonFinite: config.training.allowNonFinite,
    onEvent,
  });
  const { maxLength } = config.data;
  let open = true;
  const close = (): void => {
    open = false;
    session[Symbol.dispose]();
  };
  const requireOpen = (): void => {
    if (!open)
      throw new QloraError("MODEL_CLOSED", "the model is disposed of", { hint: "Open it again with openModel." });
  };
  return {
    session,
    async encode(texts) {
      requireOpen();
      const specials = trainingSpecials(source.checkpoint, config.data);
      const tokenizer = openDatasetTokenizer({
        dir: source.checkpoint,
        addBos: specials?.addBosToken,
        addEos: specials?.addEosToken,
        maxLength,
        vocabSize,
        cache: false,
      });
      const rows = texts.map((text, i) => {
        return { kind: "text", text, id: String(i), file: "texts", line: i + 1, label: undefined } as const;
      });
      try {
        const data = await tokenizer.tokenize({ files: ["texts"], rows });
        return await data.ready(texts.map((_, i) => i));
      } finally {
        await tokenizer.close();
      }
    },
    async logits(ids) {
      requireOpen();
      const values = await readLogits(session, samplesOf(ids));
      return ids.map((_, i) => values.slice(i * numLabels, (i + 1) * numLabels));
    },
    async hiddenStates(ids, block) {
      requireOpen();
      return hiddenStates(session, ids, block);
    },
    [Symbol.dispose]: close,
    [Symbol.asyncDispose]: async () => close(),
  };
}

const samplesOf = (ids: readonly Uint32Array[]): Sample[] =>
  ids.map((inputIds, index) => ({ index, inputIds, label: undefined }));

async function hiddenStates(
  session: Session,
  ids: readonly Uint32Array[],
  block: number,
): Promise<readonly Float32Array[]> {
  const { gpu } = session;
  let seen = 0;
  let kept: Tensor | undefined;
  const onHidden = (hidden: Tensor): void => {
    if (seen++ !== block) return;
    kept = gpu.alloc(hidden.shape, "f32", `hidden states ${block}`, "data");
    gpu.copyInto(hidden, kept, 0);
  };
  const read = async (): Promise<Float32Array | undefined> => {
    gpu.submit();
    return kept && gpu.readFloats(kept);
  };
  const all = await forwardPass(session, samplesOf(ids), read, { onHidden });
  if (kept === undefined || all === undefined)
    throw new ConfigError("BLOCK_UNKNOWN", `hiddenStates: got block ${block}, expected 0 to ${seen - 1}`);
  gpu.free(kept);
  const width = kept.shape[1]!;
  let start = 0;
  return ids.map(({ length }) => all.slice(start * width, (start += length) * width));
}
