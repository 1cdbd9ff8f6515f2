/** Options that pin the device path; the same for every command. */
import { defineOptions, option, type InferInput, type InferOptions } from "../../core/options/options.ts";
import { parseBytes } from "../../core/util/byte-size.ts";

export const deviceOptions = defineOptions(
  {
    gpu: option("'auto' | 'bun-webgpu' | 'webgpu'", {
      default: "auto",
      help: "which WebGPU binding; auto takes the one that offers the better tier",
    }),
    tier: option("'auto' | 'f32' | 'f16' | 'matrix'", {
      default: "auto",
      help: "which kernels; auto takes the best that the device computes right",
    }),
    robustness: option("boolean", {
      default: true,
      help: "bounds checks of the driver; off is some per cent faster in matrix products (needs the binding webgpu)",
    }),
    device: option("string", {
      optional: true,
      help: "which of several GPUs: a number, UUID or PCI address of qlora doctor, or a list of them for the ranks of a host (default: QLORA_DEVICE; else each rank's own, and the driver's first for one process)",
    }),
    memoryBudget: option("string", {
      optional: true,
      help: "GPU memory that a run may take, such as 24GiB (default: what is free, less a margin for the driver)",
    }),
  },
  ({ memoryBudget }) =>
    memoryBudget === undefined || parseBytes(memoryBudget) !== undefined
      ? []
      : [`memoryBudget: got ${memoryBudget}, expected a size such as 24GiB or 512MiB`],
);

export type DeviceOptionsInput = InferInput<typeof deviceOptions>;
export type DeviceOptions = InferOptions<typeof deviceOptions>;
