export { Gpu } from "./gpu.ts";
export { validateKernels } from "./validate.ts";
export type { Kernel } from "./kernels.ts";
export { openGpu, type OpenOptions } from "./open.ts";
export type { ProfileLine, Work } from "./profile.ts";
export { type Capabilities, type GpuInfo, type MatrixShape, type Provider, type Tier, tiersOf } from "./probe.ts";
export { describeDevice, NVIDIA, type PaperDevice, paperGpu } from "./paper.ts";
