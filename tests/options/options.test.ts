import { describe, expect, test } from "bun:test";
import { ConfigError } from "../../core/errors.ts";
import { describeDefinition } from "../../core/options/describe.ts";
import { defineOptions, option, type InferInput, type InferOptions } from "../../core/options/options.ts";
import { readOptionText } from "../../core/options/parse.ts";
import { nearestName } from "../../core/util/suggest.ts";

const lora = defineOptions({
  rank: option("number.integer >= 1", { default: 8, help: "LoRA rank r" }),
  dropout: option("0 <= number < 1", { default: 0, help: "dropout of the adapter's input" }),
  targetModules: option("'all-linear' | string[]", { default: "all-linear", help: "modules to adapt" }),
  bias: option("'none' | 'all'", { default: "none", help: "which biases train" }),
  useRslora: option("boolean", { default: false, help: "scale by alpha / sqrt(r)" }),
  layersToTransform: option("number.integer[]", { optional: true, help: "layers to adapt" }),
  alpha: option("number > 0", { defaultFrom: "rank", help: "LoRA alpha" }),
});
const model = defineOptions({ checkpoint: option("string", { help: "folder of the checkpoint" }) });

function problemsOf(input: unknown): readonly string[] {
  const result = lora.check(input, "adapter");
  return result.ok ? [] : result.problems;
}

describe("parse", () => {
  test("fills defaults in, and takes one option's default from another", () => {
    expect(lora.parse({ rank: 16, dropout: undefined })).toEqual({
      rank: 16,
      dropout: 0,
      targetModules: "all-linear",
      bias: "none",
      useRslora: false,
      layersToTransform: undefined,
      alpha: 16,
    });
    expect(lora.parse({ rank: 16, alpha: 32 }).alpha).toBe(32);
  });

  test("collects every problem with its path, what was got and what was expected", () => {
    expect(problemsOf({ rank: "x", dropout: 1, bias: "some", targetModules: 3, layersToTransform: [0.5] })).toEqual([
      'adapter.rank: got "x", expected an integer >= 1',
      "adapter.dropout: got 1, expected a number >= 0 and < 1",
      'adapter.targetModules: got 3, expected "all-linear" or a list of strings',
      'adapter.bias: got "some", expected "none" or "all"',
      "adapter.layersToTransform: got [0.5], expected a list of integers",
    ]);
    expect(problemsOf({ rank: 0 })).toEqual(["adapter.rank: got 0, expected an integer >= 1"]);
    expect(problemsOf({ alpha: Number.NaN })).toEqual(["adapter.alpha: got NaN, expected a number > 0"]);
  });

  test("refuses unknown keys, with the nearest name or the list", () => {
    expect(problemsOf({ rnak: 8 })).toEqual(['adapter.rnak: unknown option; did you mean "rank"?']);
    expect(problemsOf({ zzzzzzzz: 8 })).toEqual([
      "adapter.zzzzzzzz: unknown option; expected one of rank, dropout, targetModules, bias, useRslora, layersToTransform, alpha",
    ]);
    expect(problemsOf({ constructor: 1 })[0]).toStartWith("adapter.constructor: unknown option");
  });

  test("refuses what is no object, and a missing required option", () => {
    expect(problemsOf(8)).toEqual(["adapter: got 8, expected an object of options"]);
    expect(() => model.parse({}, "model")).toThrow("model.checkpoint: got nothing, expected a string");
    expect(() => model.parse({}, "model")).toThrow(ConfigError);
  });

  test("refuses an infinity, which a run's record could not keep", () => {
    expect(problemsOf({ alpha: Infinity })).toEqual(["adapter.alpha: got Infinity, expected a number > 0"]);
  });

  test("applies the rules of the set", () => {
    const range = defineOptions(
      { low: option("number", { default: 0, help: "" }), high: option("number", { default: 1, help: "" }) },
      ({ low, high }) => (low > high ? [`low: got ${low}, expected at most high (${high})`] : []),
    );
    expect(() => range.parse({ low: 2 }, "range")).toThrow("range.low: got 2, expected at most high (1)");
  });
});

describe("describe", () => {
  test("is plain JSON that help is made of", () => {
    const described = lora.describe();
    expect(JSON.parse(JSON.stringify(described))[0]).toEqual({
      key: "rank",
      expected: "an integer >= 1",
      required: false,
      default: 8,
      help: "LoRA rank r",
    });
    expect(described.map((row) => row.key)).toEqual(Object.keys(lora.shape));
    expect(model.describe()[0]!.required).toBe(true);
  });

  test.each([
    ["number.integer >= 1 | -1", "an integer >= 1 or -1"],
    ["'linear' | 'cosine' | 'constant'", '"linear", "cosine" or "constant"'],
    ["string[]", "a list of strings"],
    ["boolean", "true or false"],
    ["Record<string, boolean>", "Record<string, boolean>"],
    ["Record<string, number>", 'an object of numbers, such as {"name": 4}'],
  ])("says %s in words", (definition, words) => expect(describeDefinition(definition)).toBe(words));
});

describe("text from the command line", () => {
  const shapes = defineOptions({
    number: option("number", { help: "" }),
    text: option("string", { help: "" }),
    switch: option("boolean", { help: "" }),
    names: option("'all' | string[]", { help: "" }),
    layers: option("number.integer[]", { help: "" }),
    columns: option("Record<string, string>", { help: "" }),
    resume: option("boolean | string", { help: "" }),
  }).shape;

  test.each([
    ["number", "3e-4", 3e-4],
    ["number", "-1", -1],
    ["text", "16", "16"],
    ["text", "true", "true"],
    ["text", "a,b", "a,b"],
    ["switch", "false", false],
    ["names", "all", "all"],
    ["names", "q_proj", ["q_proj"]],
    ["names", "q_proj, k_proj", ["q_proj", "k_proj"]],
    ["names", '["q,proj"]', ["q,proj"]],
    ["layers", "3", [3]],
    ["layers", "0,1,2", [0, 1, 2]],
    ["columns", '{"text":"body"}', { text: "body" }],
    ["resume", "output/checkpoint-3", "output/checkpoint-3"],
    ["resume", "true", true],
  ] as const)("--%s %s", (name, text, value) => {
    expect(readOptionText(shapes[name], text, `--${name}`)).toEqual({ ok: true, value });
  });

  test.each([
    ["number", "", '--number: got "", expected a number'],
    ["number", "8x", '--number: got "8x", expected a number'],
    ["number", "Infinity", '--number: got "Infinity", expected a number'],
    ["text", "", '--text: got "", expected a string'],
    ["names", "a,", '--names: got "a,", expected "all" or a list of strings'],
    ["switch", "yes", '--switch: got "yes", expected true or false'],
    ["layers", "0,x", '--layers: got "0,x", expected a list of integers'],
  ] as const)("refuses --%s %s", (name, text, problem) => {
    expect(readOptionText(shapes[name], text, `--${name}`)).toEqual({ ok: false, problems: [problem] });
  });
});

test("the nearest name is one that a slip of the fingers explains", () => {
  const names = ["learningRate", "loggingSteps", "maxSteps", "seed"];
  expect(nearestName("learning_rate", names)).toBe("learningRate");
  expect(nearestName("lerning-rate", names)).toBe("learningRate");
  expect(nearestName("sede", names)).toBe("seed");
  expect(nearestName("tokenizer", names)).toBeUndefined();
});

// Types: read by the compiler, never run.
export function types(): void {
  const input: InferInput<typeof lora> = { rank: 4, targetModules: ["q_proj"] as const };
  const output: InferOptions<typeof lora> = lora.parse(input);
  const rank: number = output.rank;
  const layers: readonly number[] | undefined = output.layersToTransform;
  // @ts-expect-error a required option is missing
  const missing: InferInput<typeof model> = {};
  // @ts-expect-error an unknown key
  const unknown: InferInput<typeof lora> = { rnak: 4 };
  // @ts-expect-error a wrong type
  const wrong: InferInput<typeof lora> = { rank: "4" };
  // @ts-expect-error not one of the words
  const word: InferInput<typeof lora> = { bias: "some" };
  // @ts-expect-error an optional value may be undefined
  const optional: readonly number[] = output.layersToTransform;
  // @ts-expect-error parsed options do not change
  output.rank = 5;
  // @ts-expect-error a default of another type
  option("number.integer >= 1", { default: "8", help: "" });
  // @ts-expect-error not an arktype definition
  option("number.intger", { help: "" });
  // @ts-expect-error help is not optional
  option("number", { default: 1 });
  void [rank, layers, missing, unknown, wrong, word, optional];
}
