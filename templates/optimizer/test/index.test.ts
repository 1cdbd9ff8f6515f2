import { expect, setDefaultTimeout, test } from "bun:test";
import { OptimizerBench, optimizerContract, testGpu, testTiers } from "qlora/testing";
import { myPlugin } from "../src/index.ts";

setDefaultTimeout(120_000); // a first run compiles kernels, which takes a CPU longer than the standard 5 s

for (const tier of await testTiers()) {
  for (const { name, run } of optimizerContract(testGpu(tier), myPlugin())) test(`${name}, tier ${tier}`, run);

  test(`two steps by hand, tier ${tier}`, async () => {
    const plugin = myPlugin({ momentum: 0.5, weightDecay: 0.1 });
    const initial = Float32Array.of(1, 1, 1);
    const bench = new OptimizerBench(await testGpu(tier), plugin, [{ name: "w", shape: [3], initial }]);
    bench.step({ w: Float32Array.of(4, -4, 0) }, { learningRate: 0.5, update: 1 });
    bench.step({ w: Float32Array.of(-3, 1, 0) }, { learningRate: 0.5, update: 2 });
    // Means 2, -2, 0 and then -0.5, -0.5, 0.
    const first = [1 - 0.5 * 1.1, 1 + 0.5 * 0.9, 1 - 0.05];
    const second = first.map((p, i) => p - 0.5 * ([-1, -1, 0][i]! + 0.1 * p));
    const value = await bench.value("w");
    second.forEach((p, i) => expect(value[i]).toBeCloseTo(p, 6));
    bench.destroy();
  });
}
