export { Gpu } from "./gpu.ts";
export { validateKernels } from "./validate.ts";
export type { Kernel } from "./pipelines.ts";
export { openGpu, type OpenOptions } from "../../runtime/device/open.ts";
export type { ProfileLine, Work } from "./profile.ts";
export { type Capabilities, type GpuInfo, type MatrixShape, type Provider, type Tier, tiersOf } from "./probe.ts";
export { describeDevice, NVIDIA, type PaperDevice, paperGpu } from "./meta.ts";
