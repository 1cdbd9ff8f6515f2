/**
 * NF4 weights in a checkpoint, as bitsandbytes lays them out: the packed codes under the weight's own name, and beside
 * it `.absmax`, `.quant_map`, `.nested_absmax`, `.nested_quant_map` and `.quant_state.bitsandbytes__nf4` (JSON).
 */
import type { ErrorDetails, ModelError } from "../errors.ts";
import { checkpointError } from "./checkpoint.ts";
import { nonFinite } from "./finite.ts";
import { parseJsonObject } from "./json-object.ts";
import { NF4_HINT } from "./model-config.ts";
import {
  NESTED_BLOCK_SIZE,
  NF4_BLOCK_SIZE,
  nf4CodeBook,
  type NestedAbsmax,
  type Nf4DType,
  type PackedNf4,
} from "./nf4.ts";
import type { TensorInfo } from "./safetensors-header.ts";
import { missingTensor, type TensorSource } from "./safetensors.ts";

const STATE = "quant_state.bitsandbytes__nf4";
const PLAIN_PARTS = new Set(["absmax", "quant_map", STATE]);
const NESTED_PARTS = new Set([...PLAIN_PARTS, "nested_absmax", "nested_quant_map"]);
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
export interface Nf4State {
  readonly shape: readonly [outFeatures: number, inFeatures: number];
  readonly dtype: Nf4DType;
  /** Mean of the absmax values where they are double-quantized. */
  readonly nestedOffset: number | undefined;
}

/**
 * Checks what headers (or an index, which has names alone) say of an NF4 weight; reads nothing.
 * @param parts what follows `name.` in the names of its sub-tensors
 * @param shape what the model expects `[out, in]`
 * @throws ModelError CHECKPOINT_INVALID naming the tensor
 */
export function checkNf4Headers(
  source: TensorHeaders,
  name: string,
  parts: readonly string[],
  shape: readonly number[],
): void {
  checkStyle(source, name, parts);
  const infoOf = (part: string): TensorInfo | undefined => source.infoOf(`${name}.${part}`);
  const [absmax, codes] = [infoOf("absmax"), source.infoOf(name)];
  if (absmax === undefined || codes === undefined) return;
  const elements = shape.reduce((product, n) => product * n, 1);
  const bytes = codes.end - codes.begin;
  if (bytes !== Math.ceil(elements / 2)) {
    const want = `[${shape.join(",")}] packs into ${Math.ceil(elements / 2)}`;
    throw nf4Error(source, name, `holds ${bytes} bytes, but ${want}`, { hint: OTHER_MODEL });
  }
  const blocks = absmax.shape.reduce((product, n) => product * n, 1);
  const size = BLOCK_SIZES.find((n) => n !== NF4_BLOCK_SIZE && Math.ceil(elements / n) === blocks);
  if (blocks !== Math.ceil(elements / NF4_BLOCK_SIZE) && size !== undefined) {
    throw nf4Error(
      source,
      `${name}.absmax`,
      `has ${blocks} blocks of ${size} weights, expected blocks of ${NF4_BLOCK_SIZE}`,
      {
        hint: NF4_HINT,
      },
    );
  }
}

/** Names of tensors, and what they are where headers were read. */
export interface TensorHeaders {
  infoOf(name: string): TensorInfo | undefined;
  /** The file that holds a tensor, for messages. */
  pathOf(name: string): string;
}

/** What bitsandbytes can quantize in. */
const BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096];
const OTHER_MODEL = "config.json and the weights are of different models.";

/** True where bitsandbytes quantized this weight, in whatever way. */
export function isQuantized(source: TensorSource, name: string): boolean {
  return partsOf(source, name).length > 0;
}

/**
 * Shape and dtype of an NF4 weight, all its sub-tensors checked; reads the JSON only, not the codes.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, or CHECKPOINT_INVALID naming the tensor
 */
export async function readNf4State(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<Nf4State> {
  if (!source.tensors.has(name)) throw missingTensor(source.pathOf(name), name);
  const parts = partsOf(source, name);
  checkStyle(headersOf(source), name, parts);
  const state = parseState(source, `${name}.${STATE}`, await source.read(`${name}.${STATE}`));
  if (shape !== undefined && (state.shape[0] !== shape[0] || state.shape[1] !== shape[1])) {
    const hint = OTHER_MODEL;
    throw nf4Error(source, name, `is [${state.shape.join(",")}], expected [${shape.join(",")}]`, { hint });
  }
  const nested = state.nestedOffset !== undefined;
  const allowed = nested ? NESTED_PARTS : PLAIN_PARTS;
  for (const part of allowed) {
    if (!parts.includes(part)) throw nf4Error(source, `${name}.${part}`, "is missing beside the quantized weight");
  }
  const extra = parts.find((part) => !allowed.has(part));
  if (extra !== undefined) throw nf4Error(source, `${name}.${extra}`, "does not belong to an NF4 weight");

  const elements = state.shape[0] * state.shape[1];
  const blocks = Math.ceil(elements / NF4_BLOCK_SIZE);
  // Codes may be stored as any dtype (bnb_4bit_quant_storage): the bytes are the same.
  const codes = source.tensors.get(name)!;
  if (codes.end - codes.begin !== Math.ceil(elements / 2)) {
    const want = `[${state.shape.join(",")}] packs into ${Math.ceil(elements / 2)}`;
    throw nf4Error(source, name, `holds ${codes.end - codes.begin} bytes, but ${want}`);
  }
  expectPart(source, `${name}.quant_map`, "F32", 16);
  expectPart(source, `${name}.absmax`, nested ? "U8" : "F32", blocks);
  if (nested) {
    expectPart(source, `${name}.nested_absmax`, "F32", Math.ceil(blocks / NESTED_BLOCK_SIZE));
    expectPart(source, `${name}.nested_quant_map`, "F32", 256);
  }
  return state;
}

/** What is small of an NF4 weight: all but its codes and its absmax. */
export interface Nf4QuantState extends Nf4State {
  readonly codeBook: Float32Array<ArrayBuffer>;
  /** Of a weight whose absmax values are double-quantized. */
  readonly nested: Pick<NestedAbsmax, "nestedAbsmax" | "nestedMap" | "nestedOffset"> | undefined;
}

/**
 * Reads and checks what is small of an NF4 weight, so that the rest can be streamed: the codes under `name`, the absmax
 * under `name.absmax`, u8 where `nested` is given and f32 where it is not.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export async function readNf4Frame(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<Nf4QuantState> {
  const state = await readNf4State(source, name, shape);
  const codeBook = await readF32(source, `${name}.quant_map`);
  if (codeBook.some((value, i) => value !== nf4CodeBook[i])) {
    throw nf4Error(source, `${name}.quant_map`, `is not the code book of NF4 (${codeBook.join(", ")})`);
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
 * Reads one NF4 weight with everything that dequantizes it.
 * @param shape what the model expects `[out, in]`, where it knows
 * @throws ModelError TENSOR_MISSING, SAFETENSORS_INVALID or CHECKPOINT_INVALID naming the tensor
 */
export async function readNf4(
  source: TensorSource,
  name: string,
  shape?: readonly [outFeatures: number, inFeatures: number],
): Promise<PackedNf4> {
  const frame = await readNf4Frame(source, name, shape);
  const { codeBook, dtype, nested } = frame;
  const absmax =
    nested === undefined
      ? { absmax: await readPlainAbsmax(source, name) }
      : { absmax: await source.read(`${name}.absmax`), ...nested };
  return { shape: frame.shape, dtype, codes: await source.read(name), codeBook, ...absmax };
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

function checkStyle(source: TensorHeaders, name: string, parts: readonly string[]): void {
  if (parts.length === 0) {
    const info = source.infoOf(name);
    const what = info === undefined ? "it has" : `${info.dtype} [${info.shape.join(",")}] with`;
    throw nf4Error(source, name, `is not quantized: ${what} no quant_state, expected ${STATE}`, { hint: NF4_HINT });
  }
  const states = parts.filter((part) => part.startsWith("quant_state"));
  if (states.length === 1 && states[0] === STATE) return;
  if (states.includes("quant_state.bitsandbytes__fp4")) {
    throw nf4Error(source, name, "is quantized as FP4, expected NF4", { hint: NF4_HINT });
  }
  if (states.length > 0) throw nf4Error(source, name, `has ${states.join(", ")}, expected ${STATE}`);
  if (parts.includes("SCB") || parts.includes("weight_format")) {
    throw nf4Error(source, name, "is quantized to 8 bits, expected NF4", { hint: NF4_HINT });
  }
  const unpacked = parts.filter((part) => UNPACKED_PARTS.has(part));
  if (unpacked.length > 0) {
    const hint = "Load and save the checkpoint again with a current bitsandbytes and transformers.";
    throw nf4Error(source, name, `keeps its quant_state unpacked, in the old style (${unpacked.join(", ")})`, { hint });
  }
  throw nf4Error(source, `${name}.${STATE}`, "is missing beside the quantized weight");
}

function parseState(source: TensorSource, name: string, bytes: Uint8Array): Nf4State {
  const state = parseJsonObject(bytes, (problem, cause) => nf4Error(source, name, problem, { cause }));
  const expect = (key: string, ok: boolean, expected: string, hint = DAMAGED) => {
    if (!ok) throw nf4Error(source, name, `${key} is ${JSON.stringify(state[key])}, expected ${expected}`, { hint });
  };
  const { shape, dtype, nested_offset: offset } = state;
  expect("quant_type", state["quant_type"] === "nf4", '"nf4"', NF4_HINT);
  expect("blocksize", state["blocksize"] === NF4_BLOCK_SIZE, `${NF4_BLOCK_SIZE}`, NF4_HINT);
  expect("dtype", ["bfloat16", "float16", "float32"].includes(dtype as string), "bfloat16, float16 or float32");
  const sizes =
    Array.isArray(shape) &&
    shape.length === 2 &&
    shape.every((n) => Number.isSafeInteger(n) && n > 0) &&
    Number.isSafeInteger(shape[0] * shape[1]);
  expect("shape", sizes, "[out, in]");
  if (["nested_blocksize", "nested_dtype", "nested_offset"].some((key) => key in state)) {
    expect("nested_blocksize", state["nested_blocksize"] === NESTED_BLOCK_SIZE, `${NESTED_BLOCK_SIZE}`, NF4_HINT);
    expect("nested_dtype", state["nested_dtype"] === "float32", '"float32"');
    expect(
      "nested_offset",
      Number.isFinite(offset) && Number.isFinite(Math.fround(offset as number)),
      "a finite number",
    );
  }
  return {
    shape: shape as [number, number],
    dtype: dtype as Nf4DType,
    nestedOffset: offset === undefined ? undefined : Math.fround(offset as number),
  };
}

function expectPart(source: TensorSource, name: string, dtype: "F32" | "U8", elements: number): void {
  const info = source.tensors.get(name)!;
  if (info.dtype === dtype && info.shape.length === 1 && info.shape[0] === elements) return;
  throw nf4Error(source, name, `is ${info.dtype} [${info.shape.join(",")}], expected ${dtype} [${elements}]`);
}

async function readF32(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array((await source.read(name)).buffer);
  const bad = source.allowsNonFinite === true ? -1 : values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw nonFinite(source.pathOf(name), name, bad);
  return values;
}

const DAMAGED = "The checkpoint is damaged, or was not written by bitsandbytes; fetch it again.";

function nf4Error(
  source: Pick<TensorSource, "pathOf">,
  name: string,
  what: string,
  { hint = DAMAGED, cause }: ErrorDetails = {},
): ModelError {
  return checkpointError(`${source.pathOf(name)}: tensor "${name}" ${what}`, hint, cause);
}
