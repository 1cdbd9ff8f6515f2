import { expect, setDefaultTimeout, test } from "bun:test";
import { adapterContract, testGpu, testTiers } from "qlora/testing";
import { myPlugin } from "../src/index.ts";

setDefaultTimeout(120_000); // a first run compiles kernels, which takes a CPU longer than the standard 5 s

for (const tier of await testTiers()) {
  // On qlora's toy model, per layer: q 4 (64 + 64) and v 4 (64 + 32); two layers.
  const checks = adapterContract(testGpu(tier), myPlugin({ rank: 4 }), { trainable: 2 * 4 * (128 + 96) });
  for (const { name, run } of checks) test(`${name}, tier ${tier}`, run);
}

test("a config of another adapter is not read", () => {
  expect(myPlugin.reads({ peft_type: "LORA" })).toBe(false);
  expect(() => myPlugin.fromConfig({ peft_type: "MY_PLUGIN", r: 0 })).toThrow("rank");
});
