/**
 * The contracts that the shipped plugins keep, for those of others: `import { metricContract } from "qlora/testing"`.
 * Nothing here knows a test runner: checks have a name and throw.
 */
export { adapterContract } from "./adapter.ts";
export type { AdapterContractOptions } from "./adapter-subject.ts";
export { type Check, ContractError } from "./contract.ts";
export {
  checkGradient,
  type GradientInput,
  type GradientOperand,
  type GradientProblem,
  type GradientReport,
} from "./gradient.ts";
export {
  checkKernel,
  kernelContract,
  type KernelContractOptions,
  type KernelInput,
  type KernelProblem,
} from "./kernel.ts";
export { lossContract, type LossContractOptions } from "./loss.ts";
export { metricContract, type MetricContractOptions } from "./metric.ts";
export { optimizerContract, type OptimizerContractOptions } from "./optimizer.ts";
export { reporterContract, type ReporterContractOptions, type StandInAnswer } from "./reporter.ts";
export { ModelBench, type NamedValues, type PassSettings, randomSamples, type SessionSettings } from "./model-bench.ts";
export { tinyCheckpoint, toyModel } from "./toy-model.ts";
export { modelContract, type ModelContractOptions } from "./model.ts";
export { scheduleContract, type ScheduleContractOptions } from "./schedule.ts";
export { OptimizerBench, type BenchParameter, type BenchStep, savedCodes, savedFloats } from "./optimizer-bench.ts";
export { differences, directional, dot } from "./finite-differences.ts";
export { testGpu, testTiers } from "./gpu.ts";
