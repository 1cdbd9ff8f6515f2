import { expect, test } from "bun:test";
import { metricContract } from "qlora/testing";
import { kappa } from "../src/index.ts";

for (const { name, run } of metricContract(kappa())) test(name, run);

test("a table of the textbooks", () => {
  // Cohen 1960-like: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: kappa 0.4.
  const metric = kappa().create({ numLabels: 2 });
  for (const [label, predicted, times] of [
    [0, 0, 20],
    [0, 1, 5],
    [1, 0, 10],
    [1, 1, 15],
  ] as const)
    for (let i = 0; i < times; i++) metric.add(Float32Array.of(predicted === 0 ? 1 : 0, predicted), [label], []);
  expect(metric.result()["kappa"]).toBeCloseTo(0.4, 12);
});
