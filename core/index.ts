/**
 * What a plugin is written against: `import { defineOptimizer, type Tape } from "qlora/core"`. The kinds of plugin and
 * what they get, the device with its tensors and kernels, the tape, parameters, and the files of others. Nothing in it knows
 * on which runtime it runs; ops and launchers that ship are in `qlora/kernels`.
 */
// oxlint-disable-next-line typescript/triple-slash-reference -- a compiler of this file needs the type of .wgsl imports
/// <reference path="../wgsl.d.ts" />

// ---- errors: what, where, got, expected, next step
export { ConfigError, DataError, DeviceError, ModelError, PluginError, QloraError } from "./errors.ts";
export { version } from "./util/version.ts";

// ---- the kinds of plugin
export {
  defineModel,
  type Model,
  type ModelContext,
  type ModelSpec,
  type ModelPlacement,
  type ModelPlugin,
  type ModelLoader,
  resolvePlacement,
} from "./plugin/model.ts";
export {
  type Adapter,
  type AdapterContext,
  type AdapterDevice,
  type AdapterFactory,
  type AdapterPlugin,
  defineAdapter,
} from "./plugin/adapter.ts";
export {
  defineOptimizer,
  type Optimizer,
  type OptimizerContext,
  type OptimizerPlugin,
  type OptimizerStep,
} from "./plugin/optimizer.ts";
export { quantizationShape } from "./plugin/quantization-options.ts";
export {
  type ChatMessage,
  defineTemplate,
  type Template,
  type TemplateContext,
  type TemplateField,
  type TemplatePart,
  type TemplatePlugin,
  type TemplateRow,
  type Turn,
} from "./plugin/template.ts";
export { defineSchedule, type Schedule, type ScheduleContext, type SchedulePlugin } from "./plugin/schedule.ts";
export {
  defineOptimizerWrapper,
  type InnerOptimizer,
  type OptimizerWrapper,
  type OptimizerWrapperDefinition,
} from "./plugin/optimizer-wrapper.ts";
export {
  defineReporter,
  type Reporter,
  type ReporterAnswer,
  type ReporterContext,
  type ReporterEntry,
  type ReporterFile,
  type ReporterOutput,
  type ReporterPlugin,
  type ReporterRequest,
  type ReporterRun,
  type ReporterState,
  type ReporterStatus,
  rewriteLogs,
} from "./plugin/reporter.ts";
export type { BaseRow } from "./plugin/data-format.ts";
export { groupedMetric, type MetricGroups } from "./plugin/grouped-metric.ts";
export {
  defineMetric,
  type Metric,
  type MetricContext,
  type MetricDefinition,
  type MetricFactory,
  type MetricPlugin,
} from "./plugin/metric.ts";
export { type Task } from "./plugin/task.ts";
export { ConfusionMatrix, eachRow, eachValueRow, predictedClass, softmaxRows } from "./plugin/metric-rows.ts";
export { OutputColumns } from "./plugin/output-columns.ts";
export { averageRanks, pearsonCorrelation } from "./util/correlation.ts";

// ---- options: one schema is type, check, config, flag and help
export {
  defineOptions,
  type InferInput,
  type InferOptions,
  option,
  type OptionSet,
  type SchemaShape,
} from "./options/options.ts";
export type { StandardSchema } from "./options/standard.ts";
export { defineRequest } from "./options/request.ts";

// ---- device: memory, kernels, the queue
export { Gpu } from "./device/gpu.ts";
export type { Purpose } from "./device/memory.ts";
export type { Kernel } from "./device/pipelines.ts";
export {
  type Capabilities,
  type GpuInfo,
  type MatrixShape,
  type Provider,
  type Tier,
  tiersOf,
} from "./device/probe.ts";
export type { ProfileLine } from "./device/profile.ts";

// ---- a kernel: WGSL with what the prelude declares for it, and its grid
export {
  GRAD_STATE,
  gridFor,
  type KernelOptions,
  type KernelSpec,
  moduleText,
  type ScalarType,
  type UniformType,
  wgslFloat,
} from "./device/kernel.ts";

// ---- tensors: a typed range of a buffer
export {
  byteSize,
  bytesPerElement,
  describe,
  type DType,
  elementCount,
  expectTensor,
  matrixShape,
  partOf,
  type Tensor,
} from "./device/tensor.ts";

// ---- ops: a forward and a backward, and the tape that remembers them (its file states who owns a gradient)
export { accumulate } from "./compute/accumulate.ts";
export { swapTensors } from "./compute/swap.ts";
export { type BackwardContext, type Forward, type Op, Tape, type TapeOptions } from "./compute/tape.ts";
export { type Block, type Checkpointing, type ForwardOptions, runBlocks } from "./compute/blocks.ts";

// ---- what an adapter reads and nothing trains
export { type FrozenSpec, FrozenTensors } from "./compute/frozen.ts";

// ---- what trains: parameters end to end in slabs, runs of them, and optimizer state beside them
export {
  type Parameter,
  PARAMETER_ALIGN,
  ParameterSet,
  type ParameterShape,
  type ParameterSpec,
  type Slab,
} from "./compute/parameters.ts";
export { SavedStateReader, type SavedTensor, savedTensor } from "./compute/saved-state.ts";
export { type SlabRun, slabRuns } from "./compute/slab-runs.ts";
export { SlabState, type SlabStates, slabStates } from "./compute/slab-state.ts";
export { normalValues, uniformValues } from "./util/random.ts";

// ---- what a model hands to an adapter, and the packed batch that both see
export { type Batch, uploadBatch } from "./compute/batch.ts";
export { bindDecoderLinears, type DecoderLinears, decoderLinears, type DecoderWidths } from "./compute/decoder.ts";
export {
  type AdaptedLinear,
  isTrainable,
  type LinearSpec,
  type LowRankBranch,
  type DenseWeight,
  type FrozenWeight,
  type QuantizedWeight,
} from "./compute/linear.ts";

// ---- a checkpoint's files, streamed to the GPU
export {
  type BaseWeights,
  baseWeights,
  type LoadQuantization,
  type QuantizationChoice,
} from "./formats/base-weights.ts";
export type { ByteSource, FilesToWrite, Folder, Host } from "./formats/bytes.ts";
export {
  type Checkpoint,
  checkpointError,
  expectFloats,
  openCheckpoint,
  readFloats,
  readModelConfig,
} from "./formats/checkpoint.ts";
export {
  type DecoderConfig,
  DecoderConfigReader,
  type RopeConfig,
  type RopeScaling,
} from "./formats/decoder-config.ts";
export { createDynamicMap, nearestCode } from "./formats/dynamic-map.ts";
export { f32ToBf16 } from "./formats/half.ts";
export { isObject } from "./formats/json-object.ts";
export { currentKey } from "./formats/key-names.ts";
export {
  invalidModelConfig,
  ModelConfigReader,
  type ModelLabels,
  type ModelQuantization,
  formatJson,
} from "./formats/model-config.ts";
export {
  type BlockQuantization,
  codeBooks,
  nf4CodeBook,
  type Packed4bit,
  quantize4bit,
  type QuantType,
} from "./formats/nf4.ts";
export { read4bit } from "./formats/nf4-checkpoint.ts";
export { formatPythonJson, pyFloat, type PythonJson } from "./formats/python-json.ts";
export { missingTensor, openSafetensors, type TensorSource } from "./formats/safetensors.ts";
export { type LoadProgress, TensorStream } from "./formats/tensor-stream.ts";
export { openWeights, type BaseTensorSpec } from "./formats/weights.ts";

// ---- an adapter's files, as PEFT lays them out
export {
  ADAPTER_CONFIG_FILE,
  ADAPTER_METADATA,
  ADAPTER_WEIGHTS_FILE,
  formatLoraConfig,
  formatModelCard,
  loraConfigDefaults,
  loraKey,
  parseLoraConfig,
  type PeftLoraConfig,
  readAdapterConfig,
  savedModuleKey,
} from "./formats/peft.ts";
export { type AdapterContent, adapterFiles, loadAdapterTensors } from "./adapter/files.ts";
export {
  type LoraBranch,
  type LoraOptions,
  loraOptionsFrom,
  type LoraPlan,
  loraShape,
  planLora,
} from "./adapter/lora-plan.ts";
export { addLowRank } from "./adapter/low-rank.ts";
export { expandTargets, matchTargets, patternValue, type TargetOptions } from "./adapter/peft-targets.ts";
export { pythonPattern } from "./adapter/python-regex.ts";
