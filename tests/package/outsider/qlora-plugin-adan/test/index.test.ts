import { expect, test } from "bun:test";
import { OptimizerBench, optimizerContract, testGpu, testTiers } from "qlora/testing";
import { adan } from "../src/index.ts";

/** One element in f64, by the paper's algorithm with the code's bias correction. */
function reference(p: number, gradients: readonly number[], lr: number, wd: number): number {
  let [m, v, n, before] = [0, 0, 0, gradients[0]!];
  gradients.forEach((g, k) => {
    const d = g - before;
    before = g;
    m = 0.98 * m + 0.02 * g;
    v = 0.92 * v + 0.08 * d;
    n = 0.99 * n + 0.01 * (g + 0.92 * d) ** 2;
    const [a, b, c] = [0.98, 0.92, 0.99].map((beta) => 1 - beta ** (k + 1)) as [number, number, number];
    p = (p - (lr / (Math.sqrt(n / c) + 1e-8)) * (m / a + (0.92 * v) / b)) / (1 + lr * wd);
  });
  return p;
}

for (const tier of await testTiers()) {
  for (const { name, run } of optimizerContract(testGpu(tier), adan())) test(`${name}, tier ${tier}`, run);

  test(`three steps against f64, tier ${tier}`, async () => {
    const initial = Float32Array.of(1, -2);
    const bench = new OptimizerBench(await testGpu(tier), adan({ weightDecay: 0.1 }), [
      { name: "w", shape: [2], initial },
    ]);
    const steps = [
      [3, -1],
      [0.5, 2],
      [-1, -1],
    ];
    steps.forEach((g, i) => bench.step({ w: Float32Array.from(g) }, { learningRate: 0.05, update: i + 1 }));
    const value = await bench.value("w");
    for (const i of [0, 1])
      expect(value[i]).toBeCloseTo(
        reference(
          initial[i]!,
          steps.map((g) => g[i]!),
          0.05,
          0.1,
        ),
        5,
      );
    bench.destroy();
  });
}
