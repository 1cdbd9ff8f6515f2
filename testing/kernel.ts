import type { Gpu } from "../core/device/gpu.ts";
import { elementCount, type Tensor } from "../core/device/tensor.ts";
import { defineRequest } from "../core/options/request.ts";
import { normalValues } from "../core/util/random.ts";
import { type Check, expectFinite, expectNear, expectSameBits, expectThat } from "./contract.ts";
import { testGpu, testTiers } from "./gpu.ts";
import { expectNothingHeld } from "./leaks.ts";

/** An input of the kernel under test. */
export interface KernelInput {
  readonly name: string;
  readonly shape: readonly number[];
  /** `half` is the tier's operand type (`gpu.computeDtype`). Default `f32`. */
  readonly dtype?: "f32" | "half" | "u32";
  /** Default: seeded normal numbers. A u32 input needs them. */
  readonly values?: ArrayLike<number>;
}

/** A launcher, what it reads, and the same on the CPU. */
export interface KernelProblem {
  readonly inputs: readonly KernelInput[];
  readonly output: { readonly shape: readonly number[]; readonly dtype?: "f32" | "half" };
  /** Launches the kernel: every element of `output`, which is NaN before, is written. */
  readonly run: (gpu: Gpu, inputs: readonly Tensor[], output: Tensor) => void;
  /** The same in f64, from the numbers that the device holds (f16 inputs are rounded first). */
  readonly reference: (...inputs: Float64Array[]) => ArrayLike<number>;
  /** Allowed relative L2 error. Default 1e-5; 1e-3 where the output is f16. */
  readonly tolerance?: number;
  readonly seed?: number;
}

type Data = Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

function dataOf({ name, shape, dtype = "f32", values }: KernelInput, half: Gpu["computeDtype"], seed: number): Data {
  const size = elementCount(shape);
  expectThat(dtype !== "u32" || values !== undefined, `input ${name} is u32 and has no values`);
  const given = values ?? normalValues(size, 1, seed, name);
  expectThat(given.length === size, `input ${name}: ${given.length} values for [${shape.join(",")}]`);
  if (dtype === "u32") return Uint32Array.from(given);
  return dtype === "half" && half === "f16" ? Float16Array.from(given) : Float32Array.from(given);
}

/**
 * Holds a launcher to its f64 reference: every element is written, finite and near; inputs stay as they are; a second launch
 * gives the same bits; no memory is kept.
 * @returns the relative L2 error
 * @throws ContractError saying what broke; DeviceError with the compiler's words where the WGSL is wrong
 * @example
 * const code = `@group(0) @binding(0) var<storage, read> x: array<f32>;
 * @group(0) @binding(1) var<storage, read_write> y: array<f32>;
 * @compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
 *   if (id.x < params.size) { y[id.x] = 2.0 * x[id.x]; }
 * }`;
 * await checkKernel(gpu, {
 *   inputs: [{ name: "x", shape: [17] }],
 *   output: { shape: [17] },
 *   run(device, [x], y) {
 *     const kernel = device.kernel("double", () => ({ code, bindings: ["read", "write"], uniforms: { size: "u32" } }));
 *     device.dispatch(kernel, [x!, y], { size: 17 }, gridFor(1));
 *   },
 *   reference: (x) => x!.map((value) => 2 * value),
 * });
 */
export function checkKernel(gpu: Gpu | Promise<Gpu>, problem: KernelProblem): Promise<number> {
  return expectNothingHeld(gpu, "the launch", (device) => check(device, problem));
}

async function check(
  gpu: Gpu,
  { inputs: specs, output: to, run, reference, tolerance, seed = 1 }: KernelProblem,
): Promise<number> {
  const data = specs.map((spec) => dataOf(spec, gpu.computeDtype, seed));
  const inputs = specs.map(({ name, shape, dtype = "f32" }, i) =>
    gpu.upload(data[i]!, shape, dtype === "half" ? gpu.computeDtype : dtype, name),
  );
  const dtype = to.dtype === "half" ? gpu.computeDtype : "f32";
  const launch = async (): Promise<Float32Array> => {
    const output = gpu.alloc(to.shape, dtype, "output");
    run(gpu, inputs, output);
    const values = await gpu.readFloats(output);
    gpu.free(output);
    return values;
  };
  try {
    const first = await launch();
    expectFinite(first, "the output (NaN where nothing was written)");
    for (const [i, { name }] of specs.entries()) {
      const bytes = new Uint8Array(data[i]!.buffer);
      expectSameBits(await gpu.readBytes(inputs[i]!), bytes, `input ${name} after the launch, bytes`);
    }
    expectSameBits(await launch(), first, "the output of a second launch");
    const want = reference(...data.map((values) => Float64Array.from(values)));
    return expectNear(first, want, tolerance ?? (dtype === "f16" ? 1e-3 : 1e-5), "the output");
  } finally {
    for (const tensor of inputs) gpu.free(tensor);
  }
}

/** What the kernel contract is held with. */
export interface KernelContractOptions {
  /** Sizes to try; odd ones find what a full workgroup hides. Default 1, 17 and 257. */
  readonly sizes?: readonly number[];
}

const checkOptions = defineRequest<KernelContractOptions>("kernelContract", {
  sizes: "number[]?",
});

/**
 * `checkKernel` in every tier that this machine offers and at odd sizes, as named checks; none, said loudly, where it has
 * no adapter.
 * @param problem the problem at a size
 * @example
 * const problem = (size: number): KernelProblem => ({
 *   inputs: [{ name: "x", shape: [size] }],
 *   output: { shape: [size] },
 *   run: (device, [x], y) => device.copy(x!, y),
 *   reference: (x) => x!,
 * });
 * for (const { name, run } of await kernelContract("copy", problem)) test(name, run);
 */
export async function kernelContract(
  name: string,
  problem: (size: number) => KernelProblem,
  options: KernelContractOptions = {},
): Promise<readonly Check[]> {
  const { sizes = [1, 17, 257] } = checkOptions(options);
  const tiers = await testTiers();
  return tiers.flatMap((tier) =>
    sizes.map((size) => ({
      name: `${name}: size ${size}, tier ${tier}`,
      run: async () => void (await checkKernel(testGpu(tier), problem(size))),
    })),
  );
}
