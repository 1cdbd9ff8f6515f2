/** Every function of the SDK that takes an object of options tells an unknown key, with the nearest name. */
import { describe, expect, test } from "bun:test";
import { ConfigError } from "../../core/errors.ts";
import * as sdk from "../../index.ts";
import { adamW8bit, gemma2, logLoss, lora } from "../../plugins/index.ts";
import * as contracts from "../../testing/index.ts";
import { failure } from "../support/failure.ts";

const config = sdk.defineConfig({ model: gemma2({ checkpoint: "none" }), adapter: lora(), optimizer: adamW8bit() });
const gpu = new Promise<never>(() => {});
/** What TypeScript would refuse. */
const loose = <T>(options: object): T => options as T;

const cases: readonly (readonly [act: () => unknown, key: string, near: string])[] = [
  [() => sdk.trainer(config, loose({ onEvents: 1 })), "options.onEvents", "onEvent"],
  [() => sdk.train(config, loose({ singal: 1 })), "options.singal", "signal"],
  [() => sdk.crossValidate(config, 2, loose({ onevent: 1 })), "options.onevent", "onEvent"],
  [() => sdk.evaluate(loose({ run: "r", filez: [] })), "evaluate.filez", "files"],
  [() => sdk.evaluate({ run: "r" }, loose({ onEvents: 1 })), "options.onEvents", "onEvent"],
  [() => sdk.predict(loose({ run: "r", filez: [] })), "predict.filez", "files"],
  [() => sdk.predict(loose({ run: "r", logit: true })), "predict.logit", "logits"],
  [() => sdk.merge(loose({ run: "r", outputDir: "o", row: 3 })), "merge.row", "rows"],
  [() => sdk.openModel(config, loose({ adaptor: "a" })), "openModel.adaptor", "adapter"],
  [() => sdk.doctor(loose({ teir: "f32" })), "device.teir", "tier"],
  [() => sdk.plan(config, loose({ layer: 2 })), "plan.layer", "layers"],
  [() => sdk.bench(loose({ warmpu: 2 })), "bench.warmpu", "warmup"],
  [() => sdk.bench(loose({ device: { gpus: "auto" } })), "device.gpus", "gpu"],
  [() => sdk.ensemble(loose({ files: [], weight: [1] })), "ensemble.weight", "weights"],
  [
    () => sdk.averageAdapters(loose({ adapters: [], outputdirs: "o", outputDir: "o" })),
    "averageAdapters.outputdirs",
    "outputDir",
  ],
  [() => sdk.watchRun("r", loose({ prot: 1 })), "watchRun.prot", "port"],
  [() => sdk.resolveModel("a/b", loose({ ofline: true })), "resolveModel.ofline", "offline"],
  [() => sdk.defineLoss(loose({ name: "l", compute: () => 1, option: {} })), "defineLoss.option", "options"],
  [() => contracts.adapterContract(gpu, lora(), loose({ sed: 1 })), "adapterContract.sed", "seed"],
  [() => contracts.optimizerContract(gpu, adamW8bit(), loose({ step: 1 })), "optimizerContract.step", "steps"],
  [() => contracts.metricContract(logLoss(), loose({ row: 1 })), "metricContract.row", "rows"],
  [() => contracts.modelContract(gpu, config.model, loose({ length: [1] })), "modelContract.length", "lengths"],
  [() => contracts.kernelContract("k", () => loose({}), loose({ size: [1] })), "kernelContract.size", "sizes"],
  [() => contracts.lossContract(loose({}), loose({ row: 1 })), "lossContract.row", "rows"],
];

describe("an unknown key is a ConfigError that names the nearest", () => {
  test.each(cases.map(([act, key, near]) => [key, near, act] as const))("%s", async (key, near, act) => {
    const message = await failure((async () => act())());
    expect(message).toBe(`ConfigError: ${key}: unknown option; did you mean "${near}"?`);
  });
});

test("a key that is missing and a value that cannot be are told too, all at once", async () => {
  const act = sdk.predict(loose({ tta: "swpa", logits: "yes", perDeviceEvalBatchSize: 1e12 }));
  const error = await act.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).problems).toEqual([
    "predict.run: got nothing, expected a string",
    "predict.perDeviceEvalBatchSize: got 1000000000000, expected an integer >= 1 and <= 65536",
    'predict.logits: got "yes", expected true or false',
    'predict.tta: got "swpa", expected "none" or "swap"',
  ]);
  expect(await failure(sdk.predict(loose([])))).toBe("ConfigError: predict: got [], expected an object of options");
});

test("what every function may be given passes", async () => {
  const { signal } = new AbortController();
  const all = { onEvent: () => {}, signal, computeGradients: async () => ({ losses: [], count: 1 }) };
  expect(typeof sdk.trainer(config, loose(all)).next).toBe("function");
  expect(
    await failure(sdk.evaluate({ run: "/none", files: undefined, tta: "swap" }, { onEvent: undefined })),
  ).toStartWith("ModelError: /none");
});
