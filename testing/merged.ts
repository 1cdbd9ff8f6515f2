import type { Gpu } from "../core/device/gpu.ts";
import type { Tensor } from "../core/device/tensor.ts";
import { denseLinear } from "../kernels/lora-linear/dense.ts";
import { dequantize } from "../kernels/nf4/index.ts";
import type { Session } from "../runtime/session/session.ts";
import type { NamedValues } from "./model-bench.ts";
import { wrappingAdapter } from "./no-adapter.ts";

/** A merged linear on the GPU. */
interface MergedLinear {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

/** Every linear of a session's model, merged by its adapter with `values`; free them with `freeMerged`. */
export async function mergeLinears(
  { gpu, model, outline, adapter }: Session,
  values: NamedValues,
): Promise<ReadonlyMap<string, MergedLinear>> {
  const merged = new Map<string, MergedLinear>();
  for (const spec of outline.linears) {
    const { outFeatures, inFeatures, name } = spec;
    const frozen = model.weight(spec);
    const whole = gpu.alloc([outFeatures, inFeatures], "f32", name, "scratch");
    dequantize(gpu, frozen, whole);
    const dense = await gpu.readFloats(whole);
    gpu.free(whole);
    adapter.mergeWeight!(spec, dense, values);
    const bias = frozen.bias === undefined ? undefined : await gpu.readFloats(frozen.bias);
    if (bias !== undefined) adapter.mergeBias?.(spec, bias, values);
    const stored = gpu.computeDtype === "f16" ? Float16Array.from(dense) : dense;
    merged.set(name, {
      weight: gpu.upload(stored, [outFeatures, inFeatures], gpu.computeDtype, name),
      bias: bias && gpu.upload(bias, [outFeatures], "f32", `${name}.bias`),
    });
  }
  return merged;
}

/** Runs the merged linears as they are. */
export const mergedAdapter = (merged: ReadonlyMap<string, MergedLinear>) =>
  wrappingAdapter((spec, weight) => {
    const linear = merged.get(spec.name)!;
    return { spec, weight, forward: (tape, x) => denseLinear(tape, x, linear.weight, linear.bias) };
  });

/** Gives the memory back. */
export function freeMerged(gpu: Gpu, merged: ReadonlyMap<string, MergedLinear>): void {
  for (const { weight, bias } of merged.values()) {
    gpu.free(weight);
    if (bias !== undefined) gpu.free(bias);
  }
}
