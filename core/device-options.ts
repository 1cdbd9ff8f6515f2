/** Options that pin the device path; the same for every command. */
import { defineOptions, option, type InferInput, type InferOptions } from "./options.ts";

export const deviceOptions = defineOptions({
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
});

export type DeviceOptionsInput = InferInput<typeof deviceOptions>;
export type DeviceOptions = InferOptions<typeof deviceOptions>;
