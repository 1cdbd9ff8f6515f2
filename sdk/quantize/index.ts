/** Quantizing a checkpoint once and for all: what is written is what bitsandbytes would have written. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import type { LoadQuantization, QuantizationChoice } from "../../core/formats/base-weights.ts";
import { openCheckpoint } from "../../core/formats/checkpoint.ts";
import { finiteTensors } from "../../core/formats/finite.ts";
import { formatPythonJson, parsePythonNumbers, pyFloat, type PythonJson } from "../../core/formats/python-json.ts";
import { defineRequest } from "../../core/options/request.ts";
import { type DeviceOptions, deviceOptions } from "../../runtime/config/device-options.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { writeFileAtomic, writeFolderAtomic } from "../../runtime/files/files.ts";
import { openFolder, writeSafetensors } from "../../runtime/files/folder.ts";
import { TOKENIZER_FILES } from "../../runtime/hub/files.ts";
import { checkEventOptions, type EventOptions } from "../../runtime/run/train-types.ts";
import { modelForCheckpoint, openBaseModel } from "../../runtime/session/base-model.ts";
import { checkApart, checkOutputFolder } from "../merge/output-folder.ts";
import { planShards } from "../merge/shards.ts";
import { resolveContext } from "../shipped.ts";
import { QuantizedTensors } from "./checkpoint.ts";

/** A checkpoint in 16 or 32 bits, and where it goes in 4. */
export interface QuantizeRequest extends Omit<QuantizationChoice, "loadIn4bit"> {
  /** Its folder, or its name on the hub. */
  readonly model: string;
  /** Branch, tag or commit of a hub checkpoint. */
  readonly revision?: string | undefined;
  /** A new or empty folder. */
  readonly outputDir: string;
  /** Replace a checkpoint that the folder holds; any other folder is refused. Default false. */
  readonly overwrite?: boolean | undefined;
  /** Bytes after which another file begins; default 5 GB. */
  readonly maxShardSize?: number | undefined;
  readonly device?: Partial<DeviceOptions> | undefined;
}

const check = defineRequest<QuantizeRequest>("quantize", {
  model: "string",
  revision: "string?",
  outputDir: "string",
  overwrite: "boolean?",
  bnb4bitQuantType: "'nf4' | 'fp4'?",
  bnb4bitUseDoubleQuant: "boolean?",
  bnb4bitBlocksize: "number?",
  llmInt8SkipModules: "string[]?",
  maxShardSize: "number >= 1?",
  device: "object?",
});

/** What `quantize` wrote. */
export interface QuantizeResult {
  readonly outputDir: string;
  /** Linears in 4 bits. */
  readonly quantized: number;
  readonly tensors: number;
  readonly shards: number;
  readonly bytes: number;
}

const MAX_SHARD_BYTES = 5e9;
const OTHER_FILES = ["generation_config.json", ...TOKENIZER_FILES];

/**
 * Quantizes a checkpoint in 16 or 32 bits and writes what bitsandbytes would: transformers loads the folder, and so does qlora.
 * @throws QloraError of every kind; ModelError QUANTIZED_ALREADY
 * @example await quantize({ model: "google/gemma-2-9b-it", outputDir: "gemma-2-9b-it-bnb-4bit" });
 */
export async function quantize(request: QuantizeRequest, options: EventOptions = {}): Promise<QuantizeResult> {
  const { onEvent } = checkEventOptions(options);
  const { model, revision, outputDir, overwrite = false, maxShardSize = MAX_SHARD_BYTES, device } = check(request);
  await checkOutputFolder(outputDir, overwrite);
  const factory = await modelForCheckpoint(model, resolveContext().shipped, { revision, onEvent });
  const { bnb4bitQuantType, bnb4bitUseDoubleQuant, bnb4bitBlocksize, llmInt8SkipModules } = request;
  const choice = { bnb4bitQuantType, bnb4bitUseDoubleQuant, bnb4bitBlocksize, llmInt8SkipModules, revision };
  const given = Object.fromEntries(Object.entries(choice).filter(([, value]) => value !== undefined));
  const plugin = factory.configure({ ...given, checkpoint: model });
  const { source } = await openBaseModel(plugin, { loads: false, onEvent });
  const folder = source.checkpoint;
  checkApart(outputDir, "the checkpoint", folder);
  const { baseParameters } = await source.outline(1);
  const rows = new Map(baseParameters.map(({ name, quantized }) => [name, quantized]));
  const first = baseParameters.find(({ quantized }) => quantized !== undefined)?.quantized;
  if (first === undefined) {
    throw new ModelError("QUANTIZED_ALREADY", `${model}: none of its linears is in 16 or 32 bits`, {
      hint: "It can be trained on as it is; to quantize it in another way, start from the checkpoint that it was made of.",
    });
  }
  await using checkpoint = finiteTensors(await openCheckpoint(openFolder(folder)), false);
  const quantized = new Map(
    [...checkpoint.tensors.keys()].flatMap((name): [string, LoadQuantization][] => {
      const to = rows.get(name);
      return to === undefined ? [] : [[name, to]];
    }),
  );
  const others = [...checkpoint.tensors].filter(
    ([name, { shape }]) => shape.length === 2 && name.endsWith(".weight") && !rows.has(name),
  );
  const foreign = [...new Set(others.map(([name]) => moduleOf(name)))];
  const config = await configText(folder, first, [...(llmInt8SkipModules ?? []), ...foreign.filter(isNoHead)]);
  const gpu = await openGpu(deviceOptions.parse({ ...device }, "device"));
  try {
    const tell = (done: number, total: number): void =>
      onEvent?.({ type: "progress", what: "quantizing linears", done, total });
    const made = new QuantizedTensors(gpu, { checkpoint, quantized, onWeight: tell });
    const tensors = await made.list();
    const { files, bytes } = planShards(tensors, maxShardSize);
    await writeFolderAtomic(outputDir, async (to) => {
      for (const { name, tensors: own } of files) await writeSafetensors(join(to, name), own, { format: "pt" });
      await made.finish();
      if (files.length > 1) {
        const places = Object.fromEntries(files.flatMap(({ name, tensors: own }) => own.map(([key]) => [key, name])));
        const index = formatPythonJson({ metadata: { total_size: bytes }, weight_map: places });
        await writeFileAtomic(join(to, "model.safetensors.index.json"), `${index}\n`);
      }
      await writeFileAtomic(join(to, "config.json"), config);
      for (const name of OTHER_FILES) {
        // Written, not copied: a cache's files may be read-only, and a folder of ours is not.
        if (existsSync(join(folder, name))) await writeFileAtomic(join(to, name), await readFile(join(folder, name)));
      }
    });
    return { outputDir, quantized: quantized.size, tensors: tensors.length, shards: files.length, bytes };
  } finally {
    gpu.destroy();
  }
}

/** The part of the model that a tensor belongs to: `vision_tower` of `model.vision_tower.encoder.layers.0.fc1.weight`. */
const moduleOf = (name: string): string => name.split(".")[name.startsWith("model.") ? 1 : 0]!;

/** transformers never quantizes a head, nor is a token table a linear. */
const isNoHead = (module: string): boolean => !["lm_head", "score", "embed_tokens"].includes(module);

/** config.json with the quantization as transformers writes it. */
async function configText(
  folder: string,
  { quantType, doubleQuant }: LoadQuantization,
  skipped: readonly string[],
): Promise<string> {
  const base = parsePythonNumbers(await readFile(join(folder, "config.json"), "utf8")) as Readonly<
    Record<string, PythonJson>
  >;
  const dtype = base["dtype"] ?? base["torch_dtype"] ?? "bfloat16";
  const quantization = {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: dtype,
    bnb_4bit_quant_storage: "uint8",
    bnb_4bit_quant_type: quantType,
    bnb_4bit_use_double_quant: doubleQuant,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    // A list takes the place of transformers' own, which has the heads.
    llm_int8_skip_modules: skipped.length === 0 ? null : ["lm_head", "score", ...skipped],
    llm_int8_threshold: pyFloat(6),
    load_in_4bit: true,
    load_in_8bit: false,
    quant_method: "bitsandbytes",
  };
  return `${formatPythonJson({ ...base, quantization_config: quantization })}\n`;
}
