/** What a checkpoint's headers say against the model's outline: known before weights are fetched, and before tokens are made. */
import { join } from "node:path";
import { hasWeights, isSingle, openCheckpoint, readIndex, WEIGHTS_INDEX } from "../../core/formats/checkpoint.ts";
import { currentKey } from "../../core/formats/key-names.ts";
import { QUANT_TYPES } from "../../core/formats/nf4.ts";
import {
  check4bitHeaders,
  checkFloatHeaders,
  headersOf,
  type TensorHeaders,
} from "../../core/formats/nf4-checkpoint.ts";
import { missingTensor } from "../../core/formats/safetensors.ts";
import type { ModelSpec } from "../../core/plugin/model.ts";
import { openFolder } from "../files/folder.ts";
import type { RemoteHeaders } from "../hub/index.ts";

/** Names of a checkpoint's tensors, and what of their headers is here. */
interface KnownTensors {
  readonly names: readonly string[];
  readonly headers: TensorHeaders;
}

/** `score.weight` for a head's parameter, which PEFT's files call `base_model.model.score.weight`. */
export const headTensor = (name: string): string => name.replace(/^base_model\.model\./, "");

/**
 * Checks the headers in a checkpoint's folder against the outline.
 * @param part `index`: shards may not be there yet, and their index says no more than names
 * @returns names of tensors that nothing reads; none where neither weights nor index are there
 * @throws ModelError CHECKPOINT_INVALID, TENSOR_MISSING or SAFETENSORS_INVALID naming the tensor
 */
export async function checkBaseHeaders(
  directory: string,
  outline: ModelSpec,
  part: "index" | "all",
): Promise<readonly string[]> {
  const folder = openFolder(directory);
  if (!(await hasWeights(folder))) return [];
  if (part === "index" && !(await isSingle(folder))) {
    const index = join(directory, WEIGHTS_INDEX);
    const names = [...(await readIndex(folder)).keys()].map(currentKey);
    return checkTensors({ names, headers: { infoOf: () => undefined, pathOf: () => index } }, outline);
  }
  await using checkpoint = await openCheckpoint(folder);
  return checkTensors({ names: [...checkpoint.tensors.keys()], headers: headersOf(checkpoint) }, outline);
}

/** The same for weights that are still on the hub. @throws ModelError as {@link checkBaseHeaders} */
export function checkRemoteHeaders(headers: RemoteHeaders, outline: ModelSpec): readonly string[] {
  const current = new Map([...headers].map(([name, header]) => [currentKey(name), header]));
  const pathOf = (name: string): string => current.get(name)?.file ?? "the headers on the hub";
  return checkTensors(
    { names: [...current.keys()], headers: { infoOf: (name) => current.get(name), pathOf } },
    outline,
  );
}

/** A plugin may read other names than its outline has: then only what is there is judged. */
function checkTensors(
  { names, headers }: KnownTensors,
  { baseParameters, head, linears: specs }: ModelSpec,
): readonly string[] {
  const own = new Set(baseParameters.map(({ name }) => name));
  const parts = new Map<string, string[]>();
  const unread: string[] = [];
  let found = 0;
  for (const name of names) {
    const weight = own.has(name) ? name : prefixOf(name, own);
    if (name === weight) found++;
    else if (weight === undefined) unread.push(name);
    else parts.set(weight, [...(parts.get(weight) ?? []), name.slice(weight.length + 1)]);
  }
  if (found === 0) return [];
  const present = new Set(names);
  const linears = new Set(specs.map(({ name }) => `${name}.weight`));
  for (const { name, shape, dtype } of baseParameters) {
    const quantType = QUANT_TYPES.find((type) => type.toUpperCase() === dtype);
    if (quantType === undefined && !linears.has(name)) continue;
    if (!present.has(name)) throw missingTensor(headers.pathOf(name), name);
    if (quantType === undefined) checkFloatHeaders(headers, name, parts.get(name) ?? [], shape);
    else check4bitHeaders(headers, name, quantType, parts.get(name) ?? [], shape);
  }
  const heads = new Set(head.map(({ name }) => headTensor(name)));
  return unread.filter((name) => !heads.has(name));
}

/** The weight that a sub-tensor such as `model.layers.0.mlp.up_proj.weight.absmax` belongs to. */
function prefixOf(name: string, weights: ReadonlySet<string>): string | undefined {
  for (let end = name.lastIndexOf("."); end > 0; end = name.lastIndexOf(".", end - 1)) {
    if (weights.has(name.slice(0, end))) return name.slice(0, end);
  }
  return undefined;
}
