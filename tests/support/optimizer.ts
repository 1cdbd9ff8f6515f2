export { type BenchParameter, OptimizerBench, savedCodes, savedFloats } from "../../testing/optimizer-bench.ts";
