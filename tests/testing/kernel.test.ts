/** Kernels of one's own: variants by tier, the harness that holds them to a reference, their line in a profile. */
import { describe, expect, test } from "bun:test";
import { elementCount, expectTensor, type Gpu, gridFor, type Tensor } from "../../core/index.ts";
import { variantFor } from "../../kernels/index.ts";
import { checkKernel, kernelContract, type KernelProblem } from "../../testing/index.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { emulatedMatrixGpu } from "../support/matrix-emulation.ts";
import { tileProduct } from "./fixtures/tile-product.ts";

test("a tier without a variant of its own takes the next lower one", () => {
  const all = { f32: 1, f16: 2, matrix: 3 };
  expect((["f32", "f16", "matrix"] as const).map((tier) => variantFor({ tier }, all))).toEqual([1, 2, 3]);
  expect((["f32", "f16", "matrix"] as const).map((tier) => variantFor({ tier }, { f32: 1, f16: 2 }))).toEqual([
    1, 2, 2,
  ]);
  expect((["f32", "f16", "matrix"] as const).map((tier) => variantFor({ tier }, { f32: 1 }))).toEqual([1, 1, 1]);
  // @ts-expect-error the variant that runs anywhere is missing
  expect(variantFor({ tier: "f32" }, { f16: 2 })).toBeUndefined();
});

/** x [16 size, 32] times w [32, 48], in f64. */
const product = (size: number): KernelProblem => ({
  inputs: [
    { name: "x", shape: [16 * size, 32], dtype: "half" },
    { name: "w", shape: [32, 48], dtype: "half" },
  ],
  output: { shape: [16 * size, 48] },
  run: (gpu, [x, w], y) => tileProduct(gpu, x!, w!, y),
  reference: (x, w) =>
    Float64Array.from({ length: 16 * size * 48 }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < 32; k++) sum += x[Math.floor(i / 48) * 32 + k]! * w[k * 48 + (i % 48)]!;
      return sum;
    }),
});
for (const { name, run } of await kernelContract("tile product", product)) test(name, run, 60_000);

test.skipIf(!tiers.includes("f16"))(
  "tile product: its variant on subgroup matrices, emulated",
  async () => {
    for (const unit of [
      { m: 8, n: 8, k: 8, lanes: 8 },
      { m: 8, n: 16, k: 16, lanes: 8 },
    ]) {
      const gpu = emulatedMatrixGpu(await gpuOf("f16"), unit);
      for (const size of [1, 3]) await checkKernel(gpu, product(size));
    }
  },
  120_000,
);

const code = `
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
  @builtin(local_invocation_index) lane: u32) {
  let i = group_index(wg, count) * 64u + lane;
  if (i < params.size) { y[i] = 2.0 * x[i]; }
}`;

/** Doubles; \`size\` is how many elements it believes there are. */
function double(gpu: Gpu, x: Tensor, y: Tensor, size = elementCount(x.shape), text = code): void {
  expectTensor(x, y.shape, "f32");
  const key = `test/double/${text === code}`;
  const kernel = gpu.kernel(key, () => ({ code: text, bindings: ["read", "write"], uniforms: { size: "u32" } }));
  gpu.dispatch(kernel, [x, y], { size }, gridFor(size / 64));
}

const doubling = (run: KernelProblem["run"]): KernelProblem => ({
  inputs: [{ name: "x", shape: [17] }],
  output: { shape: [17] },
  run,
  reference: (x) => x.map((v) => 2 * v),
});

for (const tier of tiers) {
  describe(`broken launchers are caught, tier ${tier}`, () => {
    const failure = async (run: KernelProblem["run"], change: Partial<KernelProblem> = {}): Promise<string> =>
      checkKernel(gpuOf(tier), { ...doubling(run), ...change }).then(
        (error) => `passed with ${error}`,
        (error: unknown) => String(error),
      );

    test("a sound one passes, with its error", async () => {
      expect(await failure((gpu, [x], y) => double(gpu, x!, y))).toBe("passed with 0");
    });

    test("one that leaves the last element unwritten", async () => {
      expect(await failure((gpu, [x], y) => double(gpu, x!, y, 16))).toBe(
        "ContractError: the output (NaN where nothing was written): element 16 is NaN, expected a finite number",
      );
    });

    test("one that computes something else, writes its input, or keeps memory", async () => {
      const thrice = { reference: (x: Float64Array) => x.map((v) => 3 * v) };
      expect(await failure((gpu, [x], y) => double(gpu, x!, y), thrice)).toContain("relative error 3.33e-1, allowed");
      const overwrite: KernelProblem["run"] = (gpu, [x], y) => {
        double(gpu, x!, y);
        gpu.copy(y, x!);
      };
      expect(await failure(overwrite)).toContain("input x after the launch, bytes: element");
      const hoarding: KernelProblem["run"] = (gpu, [x], y) => {
        gpu.alloc([64], "f32", "kept");
        double(gpu, x!, y);
      };
      expect(await failure(hoarding)).toBe("ContractError: 512 bytes of GPU memory are still held after the launch");
    });

    test("text that does not compile is told with the kernel's key", async () => {
      const wrong = code.replace("2.0 * x[i]", "nothing[i]");
      const message = await failure((gpu, [x], y) => double(gpu, x!, y, 17, wrong));
      expect(message).toContain("DeviceError");
      expect(message).toContain("test/double/false");
      expect(message).toContain("nothing");
    });
  });

  test(`it has a line in the profile, with its rate, tier ${tier}`, async () => {
    const gpu = await gpuOf(tier);
    const upload = (shape: readonly number[]): Tensor => {
      const size = elementCount(shape);
      const data = gpu.computeDtype === "f16" ? new Float16Array(size) : new Float32Array(size);
      return gpu.upload(data, shape, gpu.computeDtype, "x");
    };
    const [x, w, y] = [upload([16, 32]), upload([32, 48]), gpu.alloc([16, 48], "f32", "y")];
    gpu.profileStart();
    tileProduct(gpu, x, w, y);
    const lines = await gpu.profileEnd();
    expect(lines).toMatchObject([{ key: `test/tile-product/${tier}`, calls: 1, flops: 2 * 16 * 48 * 32 }]);
    for (const tensor of [x, w, y]) gpu.free(tensor);
  });
}
