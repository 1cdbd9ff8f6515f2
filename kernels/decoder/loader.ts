/** From a checkpoint's folder to a decoder: what the models of this frame do alike around their own config and block. */
import { type BaseWeights, baseWeights, type QuantizationChoice } from "../../core/formats/base-weights.ts";
import { type Host, pathIn } from "../../core/formats/bytes.ts";
import { readModelConfig } from "../../core/formats/checkpoint.ts";
import type { ModelQuantization } from "../../core/formats/model-config.ts";
import type { TensorSource } from "../../core/formats/safetensors.ts";
import { openWeights } from "../../core/formats/weights.ts";
import {
  type Model,
  type ModelContext,
  type ModelLoader,
  type ModelSpec,
  resolvePlacement,
  type UserPlacement,
} from "../../core/plugin/model.ts";
import type { DecoderPlacement } from "./index.ts";

/** Options of such a model: where the checkpoint is, where its parts lie, how its weights are read (`quantizationShape`). */
export interface DecoderOptions extends QuantizationChoice, Partial<UserPlacement> {
  readonly checkpoint: string;
  readonly revision?: string | undefined;
}

/** What decides how a decoder's weights are read. */
interface StoredConfig {
  readonly quantization: ModelQuantization | undefined;
  readonly dtype?: string | undefined;
  readonly weights?: BaseWeights | undefined;
}

/** A model's own parts. */
export interface DecoderLoaderParts<C extends StoredConfig> {
  /** Reads config.json. @param path for messages @throws ModelError */
  readonly parse: (raw: Readonly<Record<string, unknown>>, path: string) => C;
  readonly outline: (config: C, numLabels: number) => ModelSpec;
  /** Loads the weights and makes the model. @throws ModelError, DeviceError */
  readonly create: (
    context: ModelContext,
    checkpoint: TensorSource,
    config: C,
    placement: DecoderPlacement,
  ) => Promise<Model>;
}

/**
 * What `create` of a decoder's plugin gives: config.json is read with the user's choice of quantization, weights are opened as
 * the outline lists them, and lie where the options, else the memory plan, put them.
 */
export function decoderLoader<C extends StoredConfig>(
  { checkpoint, embeddings, keepDequantized, ...choice }: DecoderOptions,
  host: Host,
  { parse, outline, create }: DecoderLoaderParts<C>,
): ModelLoader {
  const folder = host.openFolder(checkpoint);
  const placement = { embeddings, keepDequantized };
  const readConfig = async (): Promise<C> => {
    const path = pathIn(folder, "config.json");
    const config = parse(await readModelConfig(folder), path);
    return { ...config, weights: baseWeights(config, choice, path) };
  };
  return {
    checkpoint,
    placement,
    outline: async (numLabels) => outline(await readConfig(), numLabels),
    load: async (context) => {
      const config = await readConfig();
      const { baseParameters } = outline(config, context.numLabels);
      await using files = await openWeights(context, folder, baseParameters);
      return await create(context, files, config, resolvePlacement(placement, context.placement));
    },
  };
}
