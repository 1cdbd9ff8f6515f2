export { Gpu, type GpuInfo, type Kernel } from "./gpu.ts";
export { openGpu, type OpenOptions } from "./open.ts";
export type { ProfileLine, Work } from "./profile.ts";
export { type Capabilities, type MatrixShape, type Provider, type Tier, tiersOf } from "./probe.ts";
