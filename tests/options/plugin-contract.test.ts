/** A plugin that lacks a part is told when it makes what lacks it, before anything trains. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PluginError } from "../../core/errors.ts";
import {
  defineAdapter,
  defineMetric,
  defineModel,
  defineOptimizer,
  defineOptions,
  type OptimizerPlugin,
} from "../../core/index.ts";
import { dryRun, train } from "../../index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const options = defineOptions({});
const nothing = (): void => {};
/** What TypeScript would refuse, as a plugin in JavaScript has it. */
const loose = <T>(value: unknown): T => value as T;

const optimizer = (made: unknown): OptimizerPlugin =>
  defineOptimizer({ name: "half", options, create: () => loose(made) })();
const metric = (made: unknown) => defineMetric({ name: "half", options, create: () => loose(made) })();
const adapter = (made: unknown) =>
  defineAdapter({
    name: "half",
    options,
    reads: () => false,
    optionsFrom: () => ({}),
    create: async () => loose(made),
  })();
const model = (made: unknown) => defineModel({ name: "half", options, create: () => loose(made) })();
const source = { checkpoint: "folder", outline: async () => ({}), load: async () => ({ forward: nothing }) };

describe("what lacks a part names the plugin, the method and each part", () => {
  const cases: readonly (readonly [string, () => unknown, string])[] = [
    [
      "an optimizer that cannot be saved",
      () => optimizer({ step: nothing, load: nothing, destroy: 3 }).create(loose({})),
      "optimizer half: of what create() gives, save: got nothing, expected a function; destroy: got 3, expected a function",
    ],
    [
      "an optimizer that is a promise",
      () => optimizer(Promise.resolve({})).create(loose({})),
      "optimizer half: of what create() gives, all: got a promise, expected an object with step, save, load, destroy",
    ],
    [
      "a metric without a result",
      () => metric({ add: nothing }).create({ numLabels: 2 }),
      "metric half: of what create() gives, result: got nothing, expected a function",
    ],
    [
      "an adapter that cannot be read back",
      () => adapter({ parameters: [], adapt: nothing, save: nothing, mergeWeight: true }).create(loose({})),
      "adapter half: of what create() gives, mergeWeight: got true, expected a function; load: got nothing, expected a function",
    ],
    [
      "a model without a checkpoint",
      () => model({ ...source, checkpoint: null }).create(fileHost),
      "model half: of what create() gives, checkpoint: got null, expected a string",
    ],
    [
      "an empty outline",
      () => model(source).create(fileHost).outline(2),
      "model half: of what outline() gives, linears: got nothing, expected a list; head: got nothing, expected a list; " +
        "baseParameters: got nothing, expected a list; vocabSize: got nothing, expected a number",
    ],
    [
      "a model that cannot be given back",
      () =>
        model({
          ...source,
          load: async () => ({ head: [], record: {}, weight: nothing, bind: nothing, forward: nothing }),
        })
          .create(fileHost)
          .load(loose({})),
      "model half: of what load() gives, destroy: got nothing, expected a function",
    ],
  ];
  test.each(cases)("%s", async (_, act, message) => {
    const error = await (async () => act())().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PluginError);
    expect(String(error)).toBe(`PluginError: ${message}`);
    expect((error as PluginError).hint).toContain("Contract of qlora/testing");
  });
});

test("methods of a class are parts too, and what more it has is its own", () => {
  class Whole {
    readonly more = 1;
    step(): void {}
    async save() {
      return new Map();
    }
    load(): void {}
    destroy(): void {}
  }
  const made = new Whole();
  expect(optimizer(made).create(loose({}))).toBe(loose(made));
});

describe("a definition", () => {
  test("that lacks what its kind needs, or has what no kind has", () => {
    const bare = { name: "half", options, create: nothing };
    expect(() => defineAdapter(loose<never>({ ...bare, read: nothing }))).toThrow(
      'the definition of adapter half: read: unknown part; did you mean "reads"?; reads: got nothing, expected a function; optionsFrom: got nothing, expected a function',
    );
    expect(() => defineModel(loose<never>({ ...bare, modelTypes: "mistral" }))).toThrow(
      'the definition of model half: modelTypes: got "mistral", expected a list',
    );
    expect(() => defineMetric(loose<never>({ ...bare, modelTypes: [] }))).toThrow(
      "the definition of metric half: modelTypes: unknown part; expected one of name, options, create",
    );
  });
});

test.skipIf(tiers.length === 0)("a run whose optimizer cannot be saved ends before its first step", async () => {
  await using folder = await temporaryFolder();
  const config = await smallRun(folder.path, {
    optimizer: optimizer({ step: nothing, load: nothing, destroy: nothing }),
    device: { tier: "f32" },
  });
  const message = "PluginError: optimizer half: of what create() gives, save: got nothing, expected a function";
  expect(await failure(dryRun(config))).toBe(message);
  const events: string[] = [];
  expect(await failure(train(config, { onEvent: ({ type }) => events.push(type) }))).toBe(message);
  expect(events).not.toContain("step");
  expect(events).not.toContain("progress"); // nor is any weight loaded
  expect(existsSync(join(folder.path, "run", "metrics.jsonl"))).toBe(false);
});

test.skipIf(tiers.length === 0)(
  "state that is no Map of tensors is the plugin's mistake, by its name",
  async () => {
    await using folder = await temporaryFolder();
    const saving = async (saved: unknown): Promise<string> => {
      const made = { step: nothing, save: async () => saved, load: nothing, destroy: nothing };
      const training = { maxSteps: 1, overwriteOutputDir: true };
      return failure(
        train(await smallRun(folder.path, { optimizer: optimizer(made), training, device: { tier: "f32" } })),
      );
    };
    const expected = "expected a Map of tensors by name";
    expect(await saving({})).toBe(`PluginError: optimizer half: save() gives {}, ${expected}`);
    expect(await saving(new Map([["m", { dtype: "f64", shape: [1], data: new Float64Array(1) }]]))).toBe(
      `PluginError: optimizer half: save() gives dtype f64 and data that is Float64Array for m, ${expected}`,
    );
    expect(await saving(new Map())).toBe("no error");
  },
  60_000,
);
