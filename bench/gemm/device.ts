import type { Gpu } from "../../core/device/gpu.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import type { MatrixUnit } from "../../kernels/matmul-matrix/index.ts";
import { openGpu } from "../../runtime/device/open.ts";

/** The device that is measured: tensor cores, with the driver's bounds checks as in training unless told otherwise. */
export function benchGpu(robustness = true): Promise<Gpu> {
  return openGpu({ gpu: "webgpu", tier: "matrix", robustness });
}

/** A device on the meta device with one matrix unit, to collect the kernels that a bench will ask for. */
export function collectingGpu({ m, n, k, lanes }: MatrixUnit): Gpu {
  const capabilities = {
    ...NVIDIA.info.capabilities,
    subgroupSize: lanes,
    matrixShapes: [[m, n, k] as const, ...(n === 16 ? [[m, 8, k] as const] : [])].map(([rows, columns, depth]) => ({
      m: rows,
      n: columns,
      k: depth,
      component: "f16",
      result: "f32",
    })),
  };
  return metaGpu({ ...NVIDIA, info: { ...NVIDIA.info, capabilities } });
}
