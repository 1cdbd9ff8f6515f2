/** A key is of one kernel: two plugins that take the same one are told so, by their files, and neither runs the other's code. */
import { describe, expect, test } from "bun:test";
import type { Gpu } from "../../core/device/gpu.ts";
import type { KernelSpec } from "../../core/device/kernel.ts";
import { metaGpu, NVIDIA } from "../../core/device/meta.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { DeviceError } from "../../core/errors.ts";
import { doubling } from "./fixtures/doubling.ts";
import { halving } from "./fixtures/halving.ts";

const tensorOf = (gpu: Gpu): Tensor => gpu.alloc([1], "f32", "p");

const clash = (first: () => unknown, second: () => unknown): string => {
  first();
  try {
    second();
  } catch (error) {
    if (error instanceof DeviceError && error.code === "KERNEL_KEY_CLASH") return error.message;
    throw error;
  }
  return "no error";
};

describe("two kernels under one key", () => {
  test("of two plugins: an error that names both files, the key and the line that differs", () => {
    const gpu = metaGpu(NVIDIA);
    const message = clash(
      () => halving(gpu, tensorOf(gpu)),
      () => doubling(gpu, tensorOf(gpu)),
    );
    expect(message).toMatch(
      /^two kernels have the key "step": the one of \S+halving\.ts:6 and the one of \S+doubling\.ts:6 differ in code, at line 2 "fn main\(\) \{ p\[0\] \*= 0\.5; \}" and "fn main\(\) \{ p\[0\] \*= 2\.0; \}"$/,
    );
  });

  test("the other way round too, and where the first was compiled ahead", async () => {
    const gpu = metaGpu(NVIDIA);
    const ahead = metaGpu(NVIDIA);
    halving(ahead, tensorOf(ahead));
    await gpu.compile(ahead.kernelSpecs);
    expect(
      clash(
        () => {},
        () => doubling(gpu, tensorOf(gpu)),
      ),
    ).toContain('the key "step"');
  });

  const spec: KernelSpec = {
    code: "fn main() {}",
    bindings: ["read", "write"],
    uniforms: { size: "u32" },
    constants: { N: 4, C: { f32: 2 } },
    types: { X: "f16" },
    enable: ["subgroups"],
    diagnostics: ["off, subgroup_uniformity"],
  };

  test.each<[string, Partial<KernelSpec>]>([
    ["bindings [read, write] and [write, read]", { bindings: ["write", "read"] }],
    ["uniforms { size: u32 } and { size: f32 }", { uniforms: { size: "f32" } }],
    ["uniforms { size: u32 } and { size: u32, more: u32 }", { uniforms: { size: "u32", more: "u32" } }],
    ["constants { N: 4, C: f32 2 } and { N: 5, C: f32 2 }", { constants: { N: 5, C: { f32: 2 } } }],
    ["constants { N: 4, C: f32 2 } and { N: 4, C: f32 3 }", { constants: { N: 4, C: { f32: 3 } } }],
    ["types { X: f16 } and { X: f32 }", { types: { X: "f32" } }],
    ["enable [subgroups] and []", { enable: [] }],
    ["diagnostics [off, subgroup_uniformity] and []", { diagnostics: [] }],
  ])("differ in %s", (difference, change) => {
    const gpu = metaGpu(NVIDIA);
    const message = clash(
      () => gpu.kernel("k", () => spec),
      () => gpu.kernel("k", () => ({ ...spec, ...change })),
    );
    expect(message).toEndWith(`differ in ${difference}`);
  });

  test("an equal one is the same kernel", () => {
    const gpu = metaGpu(NVIDIA);
    const again: KernelSpec = structuredClone(spec);
    expect(gpu.kernel("k", () => again)).toBe(gpu.kernel("k", () => spec));
  });
});
