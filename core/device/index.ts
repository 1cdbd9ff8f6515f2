export { Gpu, type GpuInfo, type Kernel, type ProfileLine, type Work } from "./gpu.ts";
export { openGpu, type OpenOptions } from "./open.ts";
export { type Capabilities, type MatrixShape, type Provider, type Tier, tiersOf } from "./probe.ts";
