import { expect, test } from "bun:test";
import { metricContract } from "qlora/testing";
import { myPlugin } from "../src/index.ts";

for (const { name, run } of metricContract(myPlugin())) test(name, run);

test("counts by hand", () => {
  const metric = myPlugin({ k: 2 }).create({ numLabels: 3 });
  const rows = [3, 2, 1, 3, 2, 1, 1, 1, 1];
  metric.add(Float32Array.from(rows), [1, 2, 1], []); // second, third, second of three equal ones
  expect(metric.result()).toEqual({ my_plugin: 2 / 3 });
});
