/** Where `qlora bench` gets its model: the bundled checkpoint, a folder, or random weights of a published shape. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ModelLoader, resolvePlacement } from "../core/plugin/model.ts";
import { gemma2 } from "../plugins/gemma2/index.ts";
import { createGemma2 } from "../plugins/gemma2/model.ts";
import { gemma2Outline } from "../plugins/gemma2/outline.ts";
import { fileHost, writeSafetensors } from "../runtime/files/folder.ts";
import { writeJson } from "../runtime/folder/folder.ts";
import type { BenchCommandOptions } from "./bench-options.ts";
import { type Gemma2Shape, syntheticConfigJson, syntheticGemma2 } from "./synthetic-checkpoint.ts";

/** The checkpoint that ships with qlora. */
export const TINY_CHECKPOINT = fileURLToPath(new URL("../assets/tiny-gemma2-nf4", import.meta.url));

const SEED = 1;
const PIECE_BYTES = 2 ** 24;

/** What the model to time or to plan is told by. */
type SourceOptions = Pick<BenchCommandOptions, "shape"> & Partial<BenchCommandOptions>;

/** The model to time. */
export function benchSource(options: SourceOptions): ModelLoader {
  const { shape, layers, checkpoint, absmax, normScale, embeddings, keepDequantized, dtype } = options;
  if (checkpoint !== undefined) return gemma2({ checkpoint, embeddings, keepDequantized }).create(fileHost);
  if (shape === "tiny") return gemma2({ checkpoint: TINY_CHECKPOINT, embeddings, keepDequantized }).create(fileHost);
  const { config, source } = syntheticGemma2(shape, { seed: SEED, absmax, normScale, dtype }, layers);
  const placement = { embeddings, keepDequantized };
  return {
    placement,
    checkpoint: `synthetic ${shape}`,
    outline: async (numLabels) => gemma2Outline(config, numLabels),
    load: (context) =>
      createGemma2(context, source, config, {
        softcap: config.attnLogitSoftcapping ?? 0,
        ...resolvePlacement(placement, context.placement),
      }),
  };
}

/** Writes a checkpoint of random weights in the exact format. @throws QloraError where it cannot be written */
export async function writeSyntheticCheckpoint(
  directory: string,
  shape: Gemma2Shape,
  options: BenchCommandOptions,
): Promise<void> {
  const { source } = syntheticGemma2(
    shape,
    { seed: SEED, absmax: options.absmax, normScale: options.normScale, dtype: options.dtype },
    options.layers,
  );
  const tensors = [...source.tensors].map(
    ([name, { dtype, shape: size }]) =>
      [name, { dtype, shape: size, data: async () => source.stream(name, PIECE_BYTES) }] as const,
  );
  await writeSafetensors(join(directory, "model.safetensors"), tensors, { format: "pt" });
  await writeJson(join(directory, "config.json"), syntheticConfigJson(shape, options));
}
