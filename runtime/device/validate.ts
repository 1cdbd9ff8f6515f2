import { type KernelSpec, moduleText } from "../../core/device/kernel.ts";
import { openNullDevice } from "./providers.ts";

/**
 * Compiles kernels as far as WGSL goes, on no GPU at all: subgroup matrices and f16 are known, nothing runs.
 * @param specs `kernelSpecs` of a GPU
 * @returns a line a problem, each with the kernel's key and the line of its module; none where all are valid
 */
export async function validateKernels(specs: ReadonlyMap<string, KernelSpec>): Promise<string[]> {
  const device = await openNullDevice();
  const found = await Promise.all(
    [...specs].map(async ([key, spec]) => {
      device.pushErrorScope("validation");
      const module = device.createShaderModule({ code: moduleText(spec), label: key });
      const [{ messages }] = await Promise.all([module.getCompilationInfo(), device.popErrorScope()]);
      return messages.filter(({ type }) => type === "error").map((m) => `${key}:${m.lineNum}: ${m.message}`);
    }),
  );
  return found.flat();
}
