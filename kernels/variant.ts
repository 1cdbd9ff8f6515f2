import type { Gpu } from "../core/device/gpu.ts";
import type { Tier } from "../core/device/probe.ts";

const FALLBACK: Readonly<Record<Tier, readonly Tier[]>> = {
  f32: ["f32"],
  f16: ["f16", "f32"],
  matrix: ["matrix", "f16", "f32"],
};

/**
 * The variant of a kernel for this device's tier: its own, else that of the next lower tier; every tier computes what a lower
 * one does. The variant in f32 runs anywhere, so it must be there.
 * @example const lanes = variantFor(gpu, { f32: 64, f16: 128 }); // or WGSL text, or a launcher
 */
export function variantFor<T>(gpu: Pick<Gpu, "tier">, variants: { readonly f32: T } & Partial<Record<Tier, T>>): T {
  const tier = FALLBACK[gpu.tier].find((each) => variants[each] !== undefined) ?? "f32";
  return variants[tier] ?? variants.f32;
}
