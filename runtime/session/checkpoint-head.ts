/** The head that a checkpoint already has, which a classifier or a reward model was trained with. */
import { hasWeights, openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { finiteTensors } from "../../core/formats/finite.ts";
import { isQuantized } from "../../core/formats/nf4-checkpoint.ts";
import type { ModelSpec, ModelLoader } from "../../core/plugin/model.ts";
import type { RunListener } from "../events.ts";
import { openFolder } from "../files/folder.ts";
import { headTensor } from "./base-headers.ts";

/** Where the head is looked for. */
export interface HeadOptions {
  readonly source: ModelLoader;
  /** What messages call the checkpoint; default its folder. */
  readonly baseModel?: string | undefined;
  readonly allowNonFinite?: boolean | undefined;
  readonly onEvent?: RunListener | undefined;
}

/**
 * First values of the head's parameters by their names: those that the checkpoint holds, as AutoModelForSequenceClassification
 * loads them. Where one is of no use here, that is said, and it has no entry.
 * @throws ModelError TENSOR_NOT_FINITE
 */
export async function checkpointHead(
  { head }: ModelSpec,
  { source, baseModel = source.checkpoint, allowNonFinite, onEvent }: HeadOptions,
): Promise<ReadonlyMap<string, Float32Array<ArrayBuffer>>> {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  const folder = openFolder(source.checkpoint);
  if (!(await hasWeights(folder))) return values;
  await using checkpoint = finiteTensors(await openCheckpoint(folder), allowNonFinite === true);
  for (const { name, shape } of head) {
    const key = headTensor(name);
    const info = checkpoint.tensors.get(key);
    if (info === undefined) continue;
    const drawn = (why: string): void =>
      onEvent?.({ type: "warning", message: `${baseModel}: its ${key} ${why}: the head is drawn anew` });
    if (isQuantized(checkpoint, key)) drawn("is quantized, and a head that trains is not");
    else if (!["F32", "BF16", "F16"].includes(info.dtype)) drawn(`is ${info.dtype}, expected F32, BF16 or F16`);
    else if (info.shape.join() !== shape.join()) {
      const labels = info.shape[0] === shape[0] ? "" : ` (${info.shape[0]} labels, this run has ${shape[0]})`;
      drawn(`is [${info.shape.join(",")}], expected [${shape.join(",")}]${labels}`);
    } else {
      values.set(name, await readFloats(checkpoint, key, shape));
      onEvent?.({ type: "info", message: `${baseModel}: training starts at its head, ${key}` });
    }
  }
  return values;
}
