/**
 * 4-bit weights in a checkpoint, as bitsandbytes lays them out: the packed codes under the weight's own name, and beside
 * it `.absmax`, `.quant_map`, `.nested_absmax`, `.nested_quant_map` and `.quant_state.bitsandbytes__nf4` or `__fp4` (JSON).
 */
import type { ErrorDetails, ModelError } from "../errors.ts";
import { checkpointError } from "./checkpoint.ts";
import { nonFinite } from "./finite.ts";
import { parseJsonObject } from "./json-object.ts";
import { CHECKPOINT_HINT } from "./model-config.ts";
import {
  BLOCK_SIZES,
  codeBooks,
  NESTED_BLOCK_SIZE,
  QUANT_TYPES,
  type NestedAbsmax,
  type Packed4bit,
  type QuantType,
  type WeightDType,
} from "./nf4.ts";
import type { TensorInfo } from "./safetensors-header.ts";
import { missingTensor, type TensorSource } from "./safetensors.ts";

const STATE_PREFIX = "quant_state.bitsandbytes__";
/** The name, behind the weight's own, of the JSON that says how a weight is quantized. */
export const statePart = (type: QuantType): string => `${STATE_PREFIX}${type}`;
const PLAIN_PARTS = ["absmax", "quant_map"];
const NESTED_PARTS = [...PLAIN_PARTS, "nested_absmax", "nested_quant_map"];
/** What files of the time before quant_state's JSON kept as tensors of their own. */
const UNPACKED_PARTS = new Set([
  "quant_type",
  "blocksize",
  "dtype",
  "shape",
  "nested_blocksize",
  "nested_dtype",
  "nested_offset",
]);

/** What the quant_state JSON says of a weight. */
export interface QuantState {
  readonly quantType: QuantType;
  readonly blockSize: number;
  readonly shape: readonly [outFeatures: number, inFeatures: number];
  readonly dtype: WeightDType;
  /** Mean of the absmax values where they are double-quantized. */
  readonly nestedOffset: number | undefined;
}

/**
 * Checks what headers (or an index, which has names alone) say of a 4-bit weight; reads nothing.
 * @param type what config.json says that it is
 * @param parts what follows `name.` in the names of its sub-tensors
 * @param shape what the model expects `[out, in]`
 * @throws ModelError CHECKPOINT_INVALID naming the tensor
 */
export function check4bitHeaders(
  source: TensorHeaders,
  name: string,
  type: QuantType,
  parts: readonly string[],
  shape: readonly number[],
): void {
  const stored = typeOf(source, name, parts);
  if (stored !== type) throw quantError(source, name, `is quantized as ${stored}, but config.json says ${type}`);
  const infoOf = (part: string): TensorInfo | undefined => source.infoOf(`${name}.${part}`);
  const [absmax, codes] = [infoOf("absmax"), source.infoOf(name)];
  if (absmax === undefined || codes === undefined) return;
  const elements = shape.reduce((product, n) => product * n, 1);
  const bytes = codes.end - codes.begin;
  if (bytes !== Math.ceil(elements / 2)) {
    const want = `[${shape.join(",")}] packs into ${Math.ceil(elements / 2)}`;
    throw quantError(source, name, `holds ${bytes} bytes, but ${want}`, { hint: OTHER_MODEL });
  }
  const blocks = absmax.shape.reduce((product, n) => product * n, 1);
  const fits = BLOCK_SIZES.some((n) => Math.ceil(elements / n) === blocks);
  if (!fits) {
    const sizes = `${BLOCK_SIZES[0]} to ${BLOCK_SIZES.at(-1)}`;
    throw quantError(
      source,
      `${name}.absmax`,
      `has ${blocks} blocks, expected blocks of ${sizes} of [${shape.join(",")}]`,
      {
        hint: CHECKPOINT_HINT,
      },
    );
  }
}

/**
 * The same of a linear that config.json says is not quantized.
 * @throws ModelError CHECKPOINT_INVALID naming the tensor
 */
export function checkFloatHeaders(
  source: TensorHeaders,
  name: string,
  parts: readonly string[],
  shape: readonly number[],
): void {
  if (parts.length > 0) {
    throw quantError(source, name, `is quantized (${parts.join(", ")}), but config.json says that it is not`, {
      hint: OTHER_MODEL,
    });
  }
  const info = source.infoOf(name);
  if (info === undefined) return;
  if (!["F32", "BF16", "F16"].includes(info.dtype)) {
    throw quantError(source, name, `is ${info.dtype}, expected F32, BF16 or F16`, { hint: CHECKPOINT_HINT });
  }
  if (info.shape.join() !== shape.join()) {
    throw quantError(source, name, `is [${info.shape.join(",")}], expected [${shape.join(",")}]`, {
      hint: OTHER_MODEL,
    });
  }
}

/** Names of tensors, and what they are where headers were read. */
export interface TensorHeaders {
  infoOf(name: string): TensorInfo | undefined;
  /** The file that holds a tensor, for messages. */
  pathOf(name: string): string;
}

const OTHER_MODEL = "config.json and the weights are of different models.";

/** True where bitsandbytes quantized this weight, in whatever way. */
export function isQuantized(source: TensorSource, name: string): boolean {
  return partsOf(source, name).length > 0;
}

/**
 * Type, shape and dtype of a 4-bit weight, all its sub-tensors checked; reads the JSON only, not the codes.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, or CHECKPOINT_INVALID naming the tensor
 */
export async function readQuantState(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<QuantState> {
  if (!source.tensors.has(name)) throw missingTensor(source.pathOf(name), name);
  const parts = partsOf(source, name);
  const type = typeOf(headersOf(source), name, parts);
  const state = parseState(source, `${name}.${statePart(type)}`, type, await source.read(`${name}.${statePart(type)}`));
  if (shape !== undefined && (state.shape[0] !== shape[0] || state.shape[1] !== shape[1])) {
    const hint = OTHER_MODEL;
    throw quantError(source, name, `is [${state.shape.join(",")}], expected [${shape.join(",")}]`, { hint });
  }
  const nested = state.nestedOffset !== undefined;
  const allowed = [...(nested ? NESTED_PARTS : PLAIN_PARTS), statePart(type)];
  for (const part of allowed) {
    if (!parts.includes(part)) throw quantError(source, `${name}.${part}`, "is missing beside the quantized weight");
  }
  const extra = parts.find((part) => !allowed.includes(part));
  if (extra !== undefined) throw quantError(source, `${name}.${extra}`, "does not belong to a 4-bit weight");

  const elements = state.shape[0] * state.shape[1];
  const blocks = Math.ceil(elements / state.blockSize);
  // Codes may be stored as any dtype (bnb_4bit_quant_storage): the bytes are the same.
  const codes = source.tensors.get(name)!;
  if (codes.end - codes.begin !== Math.ceil(elements / 2)) {
    const want = `[${state.shape.join(",")}] packs into ${Math.ceil(elements / 2)}`;
    throw quantError(source, name, `holds ${codes.end - codes.begin} bytes, but ${want}`);
  }
  expectPart(source, `${name}.quant_map`, "F32", 16);
  expectPart(source, `${name}.absmax`, nested ? "U8" : "F32", blocks);
  if (nested) {
    expectPart(source, `${name}.nested_absmax`, "F32", Math.ceil(blocks / NESTED_BLOCK_SIZE));
    expectPart(source, `${name}.nested_quant_map`, "F32", 256);
  }
  return state;
}

/** What is small of a 4-bit weight: all but its codes and its absmax. */
export interface QuantFrame extends QuantState {
  readonly codeBook: Float32Array<ArrayBuffer>;
  /** Of a weight whose absmax values are double-quantized. */
  readonly nested: Pick<NestedAbsmax, "nestedAbsmax" | "nestedMap" | "nestedOffset"> | undefined;
}

/**
 * Reads and checks what is small of a 4-bit weight, so that the rest can be streamed: the codes under `name`, the absmax
 * under `name.absmax`, u8 where `nested` is given and f32 where it is not.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export async function readQuantFrame(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<QuantFrame> {
  const state = await readQuantState(source, name, shape);
  const codeBook = await readF32(source, `${name}.quant_map`);
  if (codeBook.some((value, i) => value !== codeBooks[state.quantType][i])) {
    const type = state.quantType.toUpperCase();
    throw quantError(source, `${name}.quant_map`, `is not the code book of ${type} (${codeBook.join(", ")})`);
  }
  if (state.nestedOffset === undefined) return { ...state, codeBook, nested: undefined };
  const nested = {
    nestedAbsmax: await readF32(source, `${name}.nested_absmax`),
    nestedMap: await readF32(source, `${name}.nested_quant_map`),
    nestedOffset: state.nestedOffset,
  };
  return { ...state, codeBook, nested };
}

/** The absmax of a weight that is not double-quantized, `[blocks]` f32. @throws ModelError where one is not finite */
export function readPlainAbsmax(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  return readF32(source, `${name}.absmax`);
}

/**
 * Reads one 4-bit weight with everything that dequantizes it.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export async function read4bit(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<Packed4bit> {
  const frame = await readQuantFrame(source, name, shape);
  const { nested, nestedOffset: _, ...shared } = frame;
  const absmax =
    nested === undefined
      ? { absmax: await readPlainAbsmax(source, name) }
      : { absmax: await source.read(`${name}.absmax`), ...nested };
  return { ...shared, codes: await source.read(name), ...absmax };
}

/** What follows `name.` in the names of its sub-tensors. */
function partsOf(source: TensorSource, name: string): string[] {
  const prefix = `${name}.`;
  return [...source.tensors.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
}

/** The headers of files that are open. */
export const headersOf = (source: TensorSource): TensorHeaders => ({
  infoOf: (name) => source.tensors.get(name),
  pathOf: (name) => source.pathOf(name),
});

/** How bitsandbytes quantized a weight. @throws ModelError where it did not, or in another way than to 4 bits */
function typeOf(source: TensorHeaders, name: string, parts: readonly string[]): QuantType {
  if (parts.length === 0) {
    const info = source.infoOf(name);
    const what = info === undefined ? "it has" : `${info.dtype} [${info.shape.join(",")}] with`;
    throw quantError(source, name, `is not quantized: ${what} no quant_state, expected ${statePart("nf4")}`, {
      hint: "config.json says that it is. Where it is to stay in 16 bits, list it under quantization_config.llm_int8_skip_modules.",
    });
  }
  const states = parts.filter((part) => part.startsWith("quant_state"));
  const type = QUANT_TYPES.find((quantType) => states.length === 1 && states[0] === statePart(quantType));
  if (type !== undefined) return type;
  const expected = QUANT_TYPES.map(statePart).join(" or ");
  if (states.length > 0) throw quantError(source, name, `has ${states.join(", ")}, expected ${expected}`);
  if (parts.includes("SCB") || parts.includes("weight_format")) {
    throw quantError(source, name, "is quantized to 8 bits, expected 4 bits", { hint: CHECKPOINT_HINT });
  }
  const unpacked = parts.filter((part) => UNPACKED_PARTS.has(part));
  if (unpacked.length > 0) {
    const hint = "Load and save the checkpoint again with a current bitsandbytes and transformers.";
    throw quantError(source, name, `keeps its quant_state unpacked, in the old style (${unpacked.join(", ")})`, {
      hint,
    });
  }
  throw quantError(source, `${name}.${statePart("nf4")}`, "is missing beside the quantized weight");
}

function parseState(source: TensorSource, name: string, quantType: QuantType, bytes: Uint8Array): QuantState {
  const state = parseJsonObject(bytes, (problem, cause) => quantError(source, name, problem, { cause }));
  const expect = (key: string, ok: boolean, expected: string, hint = DAMAGED) => {
    if (!ok) throw quantError(source, name, `${key} is ${JSON.stringify(state[key])}, expected ${expected}`, { hint });
  };
  const { shape, dtype, nested_offset: offset } = state;
  expect("quant_type", state["quant_type"] === quantType, JSON.stringify(quantType));
  const blockSize = BLOCK_SIZES.find((size) => size === state["blocksize"]);
  expect("blocksize", blockSize !== undefined, `one of ${BLOCK_SIZES.join(", ")}`, CHECKPOINT_HINT);
  expect("dtype", ["bfloat16", "float16", "float32"].includes(dtype as string), "bfloat16, float16 or float32");
  const sizes =
    Array.isArray(shape) &&
    shape.length === 2 &&
    shape.every((n) => Number.isSafeInteger(n) && n > 0) &&
    Number.isSafeInteger(shape[0] * shape[1]);
  expect("shape", sizes, "[out, in]");
  if (["nested_blocksize", "nested_dtype", "nested_offset"].some((key) => key in state)) {
    expect(
      "nested_blocksize",
      state["nested_blocksize"] === NESTED_BLOCK_SIZE,
      `${NESTED_BLOCK_SIZE}`,
      CHECKPOINT_HINT,
    );
    expect("nested_dtype", state["nested_dtype"] === "float32", '"float32"');
    expect(
      "nested_offset",
      Number.isFinite(offset) && Number.isFinite(Math.fround(offset as number)),
      "a finite number",
    );
  }
  return {
    quantType,
    blockSize: blockSize!,
    shape: shape as [number, number],
    dtype: dtype as WeightDType,
    nestedOffset: offset === undefined ? undefined : Math.fround(offset as number),
  };
}

function expectPart(source: TensorSource, name: string, dtype: "F32" | "U8", elements: number): void {
  const info = source.tensors.get(name)!;
  if (info.dtype === dtype && info.shape.length === 1 && info.shape[0] === elements) return;
  throw quantError(source, name, `is ${info.dtype} [${info.shape.join(",")}], expected ${dtype} [${elements}]`);
}

async function readF32(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array((await source.read(name)).buffer);
  const bad = source.allowsNonFinite === true ? -1 : values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw nonFinite(source.pathOf(name), name, bad);
  return values;
}

const DAMAGED = "The checkpoint is damaged, or was not written by bitsandbytes; fetch it again.";

function quantError(
  source: Pick<TensorSource, "pathOf">,
  name: string,
  what: string,
  { hint = DAMAGED, cause }: ErrorDetails = {},
): ModelError {
  return checkpointError(`${source.pathOf(name)}: tensor "${name}" ${what}`, hint, cause);
}
