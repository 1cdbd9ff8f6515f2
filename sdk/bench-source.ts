/** Where `qlora bench` gets its model: the bundled checkpoint, a folder, or random weights of a published shape. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TensorSource } from "../core/formats/safetensors.ts";
import type { ModelLoader } from "../core/plugin/model.ts";
import { gemma2, gemma3, llama, phi3, qwen3 } from "../plugins/index.ts";
import { fileHost, writeSafetensors } from "../runtime/files/folder.ts";
import { writeJson } from "../runtime/folder/folder.ts";
import { modelForCheckpoint } from "../runtime/session/base-model.ts";
import type { BenchCommandOptions } from "./bench-options.ts";
import { type ShapeName, syntheticConfigJson } from "./shapes.ts";
import { syntheticFolder, type SyntheticOptions, syntheticSource } from "./synthetic-checkpoint.ts";

/** The checkpoint that ships with qlora. */
export const TINY_CHECKPOINT = fileURLToPath(new URL("../assets/tiny-gemma2-nf4", import.meta.url));

const SEED = 1;
const PIECE_BYTES = 2 ** 24;
const MODELS = [gemma2, gemma3, llama, phi3, qwen3] as const;

/** What the model to time or to plan is told by. */
type SourceOptions = Pick<BenchCommandOptions, "shape"> & Partial<BenchCommandOptions>;

/** The model to time. */
export function benchSource(options: SourceOptions): ModelLoader {
  const { shape, checkpoint, embeddings, keepDequantized } = options;
  const placement = { embeddings, keepDequantized };
  if (checkpoint !== undefined) return ofFolder(checkpoint, placement);
  if (shape === "tiny") return gemma2({ checkpoint: TINY_CHECKPOINT, ...placement }).create(fileHost);
  return synthetic(shape, options).loader;
}

/** Writes a checkpoint of random weights in the exact format. @throws QloraError where it cannot be written */
export async function writeSyntheticCheckpoint(
  directory: string,
  shape: ShapeName,
  options: BenchCommandOptions,
): Promise<void> {
  const source = await synthetic(shape, options).weights();
  const tensors = [...source.tensors].map(
    ([name, { dtype, shape: size }]) =>
      [name, { dtype, shape: size, data: async () => source.stream(name, PIECE_BYTES) }] as const,
  );
  await writeSafetensors(join(directory, "model.safetensors"), tensors, { format: "pt" });
  await writeJson(join(directory, "config.json"), syntheticConfigJson(shape, options));
}

/** A folder's model by its config.json. */
function ofFolder(checkpoint: string, placement: Pick<SourceOptions, "embeddings" | "keepDequantized">): ModelLoader {
  let found: Promise<ModelLoader> | undefined;
  const loader = (): Promise<ModelLoader> =>
    (found ??= modelForCheckpoint(checkpoint, MODELS).then(({ modelTypes: [type] }) =>
      MODELS.find(({ modelTypes }) => modelTypes.includes(type!))!({ checkpoint, ...placement }).create(fileHost),
    ));
  return {
    checkpoint,
    placement: { embeddings: placement.embeddings, keepDequantized: placement.keepDequantized },
    outline: async (numLabels) => (await loader()).outline(numLabels),
    load: async (context) => (await loader()).load(context),
  };
}

/** A shape's model, and its weights; both are of a folder that is not there. */
function synthetic(
  shape: ShapeName,
  { layers, dtype, embeddings, keepDequantized, absmax, normScale }: Partial<BenchCommandOptions>,
): { readonly loader: ModelLoader; readonly weights: () => Promise<TensorSource> } {
  const json = syntheticConfigJson(shape, { layers, dtype });
  const type = String(json["model_type"]);
  const random: SyntheticOptions = {
    seed: SEED,
    absmax,
    normScale,
    dtype,
    normOffset: type.startsWith("gemma") ? 1 : 0,
  };
  const model = MODELS.find(({ modelTypes }) => modelTypes.includes(type))!;
  const weights = async (): Promise<TensorSource> => syntheticSource((await loader.outline(1)).baseParameters, random);
  const host = { openFolder: (name: string) => syntheticFolder(name, json, weights) };
  const loader = model({ checkpoint: `synthetic ${shape}`, embeddings, keepDequantized }).create(host);
  return { loader, weights };
}
