/** Kernels compiled up front, and the kernels of whole steps at the published widths validated without a GPU. */
import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import { gradNorm } from "../../kernels/grad-norm/index.ts";
import { adamW8bit, lora } from "../../plugins/index.ts";
import { openGpu } from "../../runtime/device/open.ts";
import { validateKernels } from "../../runtime/device/validate.ts";
import { openSessionOn } from "../../runtime/session/session.ts";
import { accumulateGradients } from "../../runtime/training/step.ts";
import { benchOptions } from "../../sdk/bench-options.ts";
import { benchSource } from "../../sdk/bench-source.ts";
import { tiers } from "../support/gpu.ts";

const TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"];

/** A GPU of tier matrix on the meta device that has taken one training step of two blocks. */
async function stepped(
  shape: "gemma2-2b" | "gemma2-9b" | "gemma2-27b",
  unit: { readonly m: number; readonly n: number; readonly k: number },
  rank: number,
): Promise<Gpu> {
  const matrixShapes = [{ ...unit, component: "f16", result: "f32" }];
  const gpu = metaGpu({
    ...NVIDIA,
    info: { ...NVIDIA.info, capabilities: { ...NVIDIA.info.capabilities, matrixShapes } },
  });
  const options = benchOptions.parse({ shape, layers: 2, embeddings: "host" }, "bench");
  const session = await openSessionOn(gpu, {
    source: benchSource(options),
    adapter: lora({ rank, alpha: 32, dropout: 0.05, targetModules: TARGETS }),
    numLabels: 3,
    seed: 1,
  });
  const optimizer = adamW8bit().create({ gpu, parameters: session.parameters });
  const gradState = gpu.alloc([4], "f32", "gradState", "optimizer");
  for (const lengths of [
    [1024, 1024],
    [300, 17, 1],
  ]) {
    const samples = lengths.map((tokens, index) => ({ index, inputIds: new Uint32Array(tokens), label: 0 }));
    const settings = { limits: { maxTokens: 4096 }, checkpointing: "none", lossScale: 1024, stepKey: 0 } as const;
    gpu.free(await accumulateGradients(session, samples, settings));
  }
  gradNorm(gpu, session.parameters.slabs, gradState, { lossScale: 1024, maxNorm: 1 });
  optimizer.step({ learningRate: 1e-4, update: 1, gradState });
  return gpu;
}

describe("a training step's kernels are valid WGSL in tier matrix", () => {
  const nvidia = { m: 16, n: 16, k: 16 };
  const metal = { m: 8, n: 8, k: 8 };
  for (const [shape, unit, rank] of [
    ["gemma2-2b", nvidia, 64],
    ["gemma2-9b", nvidia, 64],
    ["gemma2-9b", nvidia, 16],
    ["gemma2-9b", metal, 64],
    ["gemma2-27b", nvidia, 64],
  ] as const) {
    test(`${shape}, rank ${rank}, unit ${unit.m} x ${unit.n} x ${unit.k}`, async () => {
      const { kernelSpecs } = await stepped(shape, unit, rank);
      const matrices = [...kernelSpecs.values()].filter(({ enable = [] }) =>
        enable.includes("chromium_experimental_subgroup_matrix"),
      );
      expect(matrices.length).toBeGreaterThan(10);
      expect(await validateKernels(kernelSpecs)).toEqual([]);
    }, 120_000);
  }

  test("a wrong one is told by its key and line", async () => {
    const [problem] = await validateKernels(
      new Map([["mine", { code: "fn main() {\n  nonsense = 1;\n}", bindings: [] }]]),
    );
    expect(problem).toMatch(/^mine:\d+: .*nonsense/);
  });
});

describe("a kernel that was not compiled is told as what it is", () => {
  /** What compiling throws where the driver rejects as it would, on a device that says so or not. */
  const thrown = async (message: string, meanwhile: (gpu: Gpu) => void = () => {}): Promise<unknown> => {
    const gpu = metaGpu({ ...NVIDIA, capacity: 1 << 20 });
    gpu.device.createComputePipelineAsync = async () => {
      meanwhile(gpu);
      throw new Error(message);
    };
    return gpu.compile(new Map([["mine", { code: "", bindings: [] }]])).catch((error: unknown) => error);
  };

  test.each([
    ["KERNEL_INVALID", "mine:3: unresolved value 'nonsense'"],
    ["OUT_OF_MEMORY", "CreateComputePipelines failed with VK_ERROR_OUT_OF_DEVICE_MEMORY"],
    ["DEVICE_LOST", "CreateComputePipelines failed with VK_ERROR_DEVICE_LOST"],
    ["DEVICE_LOST", '[Device "qlora"] is lost.'],
  ])("%s: %s", async (code, message) => {
    const error = await thrown(message);
    expect(error).toMatchObject({ name: "DeviceError", code });
    expect((error as Error).message).toContain(message);
  });

  test("memory that was refused to a buffer meanwhile is the cause", async () => {
    const error = await thrown("[ComputePipeline] is invalid", (gpu) => gpu.alloc([1 << 20], "f32", "weights"));
    expect(error).toMatchObject({ code: "OUT_OF_MEMORY" });
  });
});

describe.skipIf(tiers.length === 0)("compiling up front", () => {
  for (const provider of ["webgpu", "bun-webgpu"] as const) {
    test(`${provider}: kernels are there when they are asked for, and progress counts them`, async () => {
      const gpu = await openGpu({ gpu: provider, tier: "f32" });
      try {
        const spec = (factor: number) => ({
          code: `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(1) fn main() { x[0] = x[0] * ${factor}.0 + 1.0; }`,
          bindings: ["write"] as const,
        });
        const seen: string[] = [];
        const specs = new Map([2, 3].map((factor) => [`times ${factor}`, spec(factor)]));
        await gpu.compile(specs, { onProgress: (done, total) => seen.push(`${done}/${total}`) });
        expect(seen).toEqual(["0/2", "1/2", "2/2"]);
        const x = gpu.upload(Float32Array.of(5), [1], "f32", "x");
        for (const key of specs.keys()) {
          const missing = (): never => {
            throw new Error(`${key} was not compiled`);
          };
          const kernel = gpu.kernel(key, missing, { compare: false });
          gpu.dispatch(kernel, [x], {}, [1, 1, 1]);
        }
        expect([...(await gpu.readFloats(x))]).toEqual([34]); // (5 * 2 + 1) * 3 + 1
        await gpu.compile(specs, { onProgress: () => seen.push("again") });
        expect(seen).toHaveLength(3);
        const bad = new Map([["bad", { code: "nonsense", bindings: [] }]]);
        const error = await gpu.compile(bad).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: provider === "webgpu" ? "KERNEL_INVALID" : "DEVICE_ERROR" });
        await gpu.idle().catch(() => {}); // the invalid module is reported once more, by itself
        const lost = gpu.compile(new Map([["times 4", spec(4)]])).catch((thrown: unknown) => thrown);
        gpu.device.destroy();
        expect(await lost).toMatchObject({ code: "DEVICE_LOST" });
      } finally {
        gpu.destroy();
      }
    }, 60_000);
  }
});
