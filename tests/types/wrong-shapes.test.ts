/**
 * What the compiler refuses. `bun run types` fails where one of these lines compiles (an unused @ts-expect-error is an
 * error); the tests see that JavaScript, which has no compiler, gets a message for the same mistakes.
 */
import { describe, expect, test } from "bun:test";
import {
  type AdapterPlugin,
  defineAdapter,
  defineMetric,
  defineModel,
  defineOptimizer,
  defineOptions,
  type InferInput,
  type InferOptions,
  type Kernel,
  type KernelSpec,
  type Metric,
  type MetricPlugin,
  type ModelPlugin,
  type Op,
  type Optimizer,
  type OptimizerPlugin,
  option,
  type Tensor,
} from "../../core/index.ts";
import {
  type ComputeGradients,
  type Config,
  type ConfigInput,
  ConfigError,
  defineConfig,
  defineLoss,
  train,
} from "../../index.ts";
import { adamW8bit, f1, gemma2, logLoss, lora, muon } from "../../plugins/index.ts";
import { metricContract, optimizerContract } from "../../testing/index.ts";

/** True where two types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Called without arguments; takes one that cannot be given where the types differ. */
const same: <A, B>(...proof: Same<A, B> extends true ? [] : [never]) => void = () => {};

const parts: ConfigInput = { model: gemma2({ checkpoint: "c" }), adapter: lora(), optimizer: adamW8bit() };
const optimizer: Optimizer = { step() {}, save: async () => new Map(), load() {}, destroy() {} };
const metric: Metric = { add() {}, result: () => ({ x: 1 }) };

describe("what a user writes wrong is refused by the compiler and by a message", () => {
  const refused: readonly (readonly [string, () => unknown, string])[] = [
    // @ts-expect-error a number is wanted
    ["a rank in quotes", () => lora({ rank: "8" }), 'rank: got "8", expected an integer >= 1'],
    // @ts-expect-error no such option
    ["an unknown option", () => lora({ ranks: 8 }), "ranks: unknown option"],
    // @ts-expect-error targetModules is one word or a list of words
    ["a list of numbers", () => lora({ targetModules: [1] }), "targetModules: got"],
    // @ts-expect-error checkpoint is required
    ["a model without a checkpoint", () => gemma2({}), "checkpoint: got nothing, expected a string"],
    // @ts-expect-error no options at all where one is required
    ["a model without options", () => gemma2(), "checkpoint: got nothing, expected a string"],
    // @ts-expect-error not one of the words
    ["an average that f1 does not know", () => f1({ average: "samples" }), 'average: got "samples"'],
    // @ts-expect-error a boolean is wanted
    ["a number for a boolean", () => muon({ nesterov: 1 }), "nesterov: got 1"],
    // @ts-expect-error a factory is no configured plugin
    ["an optimizer that was not called", () => defineConfig({ ...parts, optimizer: adamW8bit }), "optimizer: got"],
    // @ts-expect-error an adapter is no model
    ["plugins exchanged", () => defineConfig({ ...parts, model: lora() }), "model: got"],
    // @ts-expect-error a list is wanted
    ["one metric without its list", () => defineConfig({ ...parts, metrics: logLoss() }), "metrics: got"],
    // @ts-expect-error an optimizer is no metric
    ["an optimizer among metrics", () => defineConfig({ ...parts, metrics: [adamW8bit()] }), "metrics[0]: got"],
    [
      "an unknown training option",
      // @ts-expect-error no such option
      () => defineConfig({ ...parts, training: { learningrate: 1 } }),
      'training.learningrate: unknown option; did you mean "learningRate"?',
    ],
    [
      "a word that is not among the choices",
      // @ts-expect-error not one of the words
      () => defineConfig({ ...parts, training: { evalStrategy: "never" } }),
      'training.evalStrategy: got "never"',
    ],
    [
      "one file without its list",
      // @ts-expect-error a list is wanted
      () => defineConfig({ ...parts, data: { trainFiles: "train.csv" } }),
      'data.trainFiles: got "train.csv"',
    ],
    // @ts-expect-error no such section
    ["an unknown section", () => defineConfig({ ...parts, trainer: {} }), "trainer: unknown section"],
  ];
  test.each(refused.map((row) => [...row]))("%s", (_, run, message) => {
    let error: unknown;
    try {
      run();
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toContain(message);
  });
});

test("what an author writes wrong is refused by the compiler", () => {
  const options = defineOptions({
    beta: option("0 <= number < 1", { default: 0.9, help: "decay" }),
    name: option("string", { help: "a name" }),
    mode: option("'a' | 'b'", { optional: true, help: "a or b" }),
  });
  same<
    InferInput<typeof options>,
    { readonly name: string; readonly beta?: number | undefined; readonly mode?: "a" | "b" | undefined }
  >();
  same<
    InferOptions<typeof options>,
    { readonly name: string; readonly beta: number; readonly mode: "a" | "b" | undefined }
  >();
  // @ts-expect-error the input type is not the output type
  same<InferInput<typeof options>, InferOptions<typeof options>>();

  // @ts-expect-error a default of the wrong type
  option("number", { default: "0.9", help: "decay" });
  // @ts-expect-error no sentence for the help text
  option("number", { default: 1 });
  // @ts-expect-error 'nmber' is no type
  expect(() => option("nmber", { default: 1, help: "decay" })).toThrow();

  defineOptimizer({
    name: "typed",
    options,
    create(given, { gpu, parameters }) {
      same<typeof given.beta, number>();
      same<typeof given.mode, "a" | "b" | undefined>();
      // @ts-expect-error options hold what the schema names
      void given.gamma;
      // @ts-expect-error an optimizer's context holds no classes
      void parameters.numLabels;
      void gpu.tier;
      return optimizer;
    },
  });
  const withoutLoad: Omit<Optimizer, "load"> = optimizer;
  // @ts-expect-error an optimizer also loads its state
  defineOptimizer({ name: "typed", options, create: () => withoutLoad });
  // @ts-expect-error an optimizer is made at once
  defineOptimizer({ name: "typed", options, create: async () => optimizer });
  // @ts-expect-error save gives a promise of tensors
  defineOptimizer({ name: "typed", options, create: () => ({ ...optimizer, save: () => new Map() }) });

  defineMetric({
    name: "typed",
    options: defineOptions({}),
    create(_options, context) {
      same<typeof context.numLabels, number>();
      // @ts-expect-error a metric sees no GPU
      void context.gpu;
      return metric;
    },
  });
  // @ts-expect-error results are numbers
  defineMetric({ name: "typed", options: defineOptions({}), create: () => ({ add() {}, result: () => ({ x: "1" }) }) });

  // @ts-expect-error an adapter says which adapter_config.json it reads
  const mute = () => defineAdapter({ name: "typed", options, create: async () => Promise.reject(new Error("never")) });
  expect(mute).toThrow("reads: got nothing, expected a function");
  // @ts-expect-error a model's source has an outline and loads
  defineModel({ name: "typed", options, create: () => ({ checkpoint: "folder" }) });

  // @ts-expect-error the gradient is missing
  defineLoss({ name: "typed", compute: ({ logits }) => ({ loss: logits[0]! }) });
  // @ts-expect-error backward takes samples
  const wrong: ComputeGradients = ({ backward }) => backward();
  void wrong;

  // @ts-expect-error a uniform is f32, u32 or i32 by name
  const spec: KernelSpec = { code: "", bindings: ["read"], uniforms: { size: "number" } };
  // @ts-expect-error an op has a backward
  const op: Op<object> = { name: "typed", forward: () => ({ outputs: [] }) };
  void [spec, op];
});

test("types of values flow through", () => {
  same<ReturnType<typeof lora>["kind"], "adapter">();
  same<ReturnType<typeof lora>["options"]["rank"], number>();
  const asAdapter: AdapterPlugin = lora();
  const asModel: ModelPlugin = gemma2({ checkpoint: "c" });
  const asOptimizer: OptimizerPlugin = adamW8bit();
  const asMetric: MetricPlugin = f1();
  // @ts-expect-error kinds do not mix
  const mixed: MetricPlugin = adamW8bit();
  void mixed;
  const config: Config = defineConfig({
    model: asModel,
    adapter: asAdapter,
    optimizer: asOptimizer,
    metrics: [asMetric],
  });
  same<typeof config.training.learningRate, number>();
  same<typeof config.data.nSplits, number | undefined>();
  expect(config.training.learningRate).toBe(5e-5);
  // @ts-expect-error a checked config is read only
  const write = (): void => void (config.training.learningRate = 1);
  // @ts-expect-error a config, not its parts
  const run = (): unknown => train(parts);
  // @ts-expect-error a contract is of its kind
  const contract = (): unknown => [metricContract(adamW8bit()), optimizerContract(f1())];
  const tensor = (t: Tensor, k: Kernel): unknown => [t.shape, k];
  // @ts-expect-error a tensor has no operators
  const plus = (t: Tensor): unknown => t.add(t);
  void [write, run, contract, tensor, plus];
});
