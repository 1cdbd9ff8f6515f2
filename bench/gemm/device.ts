import { type Gpu, openGpu } from "../../core/device/index.ts";
import { NVIDIA, paperGpu } from "../../core/device/paper.ts";
import type { MatrixUnit } from "../../kernels/gemm/index.ts";

/** The device that is measured: tensor cores, bounds checks of the driver off. */
export function benchGpu(): Promise<Gpu> {
  return openGpu({ gpu: "webgpu", tier: "matrix", robustness: false });
}

/** A device on paper with one matrix unit, to collect the kernels that a bench will ask for. */
export function collectingGpu({ m, n, k, lanes }: MatrixUnit): Gpu {
  const capabilities = {
    ...NVIDIA.info.capabilities,
    subgroupSize: lanes,
    matrixShapes: [{ m, n, k, component: "f16", result: "f32" }],
  };
  return paperGpu({ ...NVIDIA, info: { ...NVIDIA.info, capabilities } });
}
