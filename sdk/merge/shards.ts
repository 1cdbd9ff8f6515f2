import { tensorBytes } from "../../core/formats/safetensors-header.ts";
import type { TensorToWrite } from "../../core/formats/safetensors.ts";

/** One file of weights. */
export interface Shard {
  readonly name: string;
  readonly tensors: readonly (readonly [string, TensorToWrite])[];
}

/** Layer 2 before layer 10. */
const { compare } = new Intl.Collator("en", { numeric: true });

/**
 * Cuts tensors into files of at most `maxBytes` (a tensor that is larger has one to itself), named as transformers names
 * them: `model.safetensors`, or `model-00001-of-00002.safetensors` and so on.
 */
export function planShards(
  tensors: readonly (readonly [string, TensorToWrite])[],
  maxBytes: number,
): { readonly files: readonly Shard[]; readonly bytes: number } {
  const groups: (readonly [string, TensorToWrite])[][] = [[]];
  let bytes = 0;
  let size = 0;
  for (const entry of tensors.toSorted(([a], [b]) => compare(a, b))) {
    const own = tensorBytes(entry[1]);
    if (size > 0 && size + own > maxBytes) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1)!.push(entry);
    size += own;
    bytes += own;
  }
  const five = (n: number): string => String(n).padStart(5, "0");
  const nameOf = (i: number): string =>
    groups.length === 1 ? "model.safetensors" : `model-${five(i + 1)}-of-${five(groups.length)}.safetensors`;
  return { files: groups.map((own, i) => ({ name: nameOf(i), tensors: own })), bytes };
}
