import type { Gpu } from "../../core/device/gpu.ts";
import type { Tier } from "../../core/device/probe.ts";
import { type DType, elementCount, type Tensor } from "../../core/device/tensor.ts";
import { testGpu, testTiers } from "../../testing/gpu.ts";
import { random } from "./random.ts";

export { random };

/** The device of a tier, shared by all tests, with fresh tensors poisoned. */
export const gpuOf: (tier: Tier) => Promise<Gpu> = testGpu;

/** Tiers that this machine offers; empty (said loudly) where it has no adapter. */
export const tiers: readonly Tier[] = await testTiers();

/** Whether the device is a software driver, as lavapipe is, which the numbers in docs come from; true where there is none. */
export async function softwareAdapter(): Promise<boolean> {
  return tiers.length === 0 || /llvmpipe|swiftshader/i.test(JSON.stringify((await gpuOf("f32")).info.adapter));
}

/** Values rounded as a dtype stores them, so that a reference starts from the numbers the kernel reads. */
export function rounded(values: ArrayLike<number>, dtype: DType): Float32Array<ArrayBuffer> {
  if (dtype === "f16") return Float32Array.from(Float16Array.from(values));
  return Float32Array.from(values);
}

/** Uploads numbers as f32 or f16. */
export function tensorOf(
  gpu: Gpu,
  values: ArrayLike<number>,
  shape: readonly number[],
  dtype: "f32" | "f16" | "u32",
  label = "input",
): Tensor {
  if (values.length !== elementCount(shape))
    throw new RangeError(`${label}: ${values.length} values for [${shape.join(",")}]`);
  const data =
    dtype === "f16"
      ? Float16Array.from(values)
      : dtype === "u32"
        ? Uint32Array.from(values)
        : Float32Array.from(values);
  return gpu.upload(data, shape, dtype, label);
}

/** `n` seeded normal numbers times `scale`. */
export function normals(n: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  const next = random(seed);
  return Float32Array.from(
    { length: n },
    () => scale * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  );
}

/** The seed of random inputs: the same in every run, unless QLORA_TEST_SEED names another, or `random` to explore. */
export const runSeed = seedOf(process.env["QLORA_TEST_SEED"] ?? "20261130");

function seedOf(asked: string): number {
  const seed = asked === "random" ? Date.now() % 1_000_000 : Number(asked);
  if (!Number.isSafeInteger(seed)) throw new Error(`QLORA_TEST_SEED: got "${asked}", expected an integer or "random"`);
  if (asked === "random") console.error(`QLORA_TEST_SEED=${seed} repeats this`);
  return seed;
}
