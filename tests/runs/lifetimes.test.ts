/** Scripts that call things in an odd order. */
import { describe, expect, test } from "bun:test";
import { crossValidate, dryRun, inspect, openModel, plan, train, type Config } from "../../index.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

test("a config that defineConfig did not make is told as such", async () => {
  await using folder = await temporaryFolder();
  const { input: given } = await smallRun(folder.path);
  for (const [config, got] of [
    [undefined, "nothing"],
    [{}, "{}"],
    [{ training: given.training }, '{"training":{"outputDir":'],
  ] as unknown as readonly (readonly [Config, string])[]) {
    const calls = [train(config), crossValidate(config, 2), dryRun(config), inspect(config), openModel(config)];
    for (const call of [...calls, plan(config)])
      expect(await failure(call)).toStartWith(`ConfigError: config: got ${got}`);
  }
});

describe.skipIf(tiers.length === 0)("with a GPU", () => {
  test("a model may be disposed of twice; what is asked of it then is told", async () => {
    await using folder = await temporaryFolder();
    using model = await openModel(await smallRun(folder.path));
    const ids = await model.encode(["kind and clear"]);
    model[Symbol.dispose]();
    model[Symbol.dispose]();
    for (const asked of [model.encode(["a"]), model.logits(ids), model.hiddenStates(ids, 0)])
      expect(await failure(asked)).toBe("QloraError: the model is disposed of");
  }, 240_000);
});
