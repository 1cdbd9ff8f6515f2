/** What a metric must not give, told before a run starts. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { defineMetric, defineOptions, type MetricPlugin } from "../../core/index.ts";
import { train } from "../../index.ts";
import { accuracy, auc, brier, confusion, ece, f1, logLoss, mcc } from "../../plugins/index.ts";
import { scoreLogits, validateMetrics } from "../../runtime/training/evaluate.ts";
import { failure } from "../support/failure.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";
import { classification, scoredClasses } from "../../runtime/training/tasks/classification.ts";

const metric = (result: () => unknown): MetricPlugin =>
  defineMetric({
    name: "mine",
    options: defineOptions({}),
    create: () => ({ add: () => {}, result: result as () => Record<string, number> }),
  })();

test.each([
  ["a promise", async () => ({ a: 1 }), "metric mine: result() gives a promise, expected an object of numbers"],
  ["a text", () => ({ a: "1" }), 'metric mine: result() gives a: "1", expected an object of numbers'],
  ["nothing", () => undefined, "metric mine: result() gives nothing, expected an object of numbers"],
  ["another's name", () => ({ log_loss: 7 }), "metric mine: result() gives log_loss, expected a name that no other"],
  ["the loss", () => ({ loss: 7 }), "metric mine: result() gives loss, expected a name that no other metric gives"],
])("a metric that gives %s is refused before the run has a folder", async (_, result, message) => {
  await using folder = await temporaryFolder();
  const config = await smallRun(folder.path, { metrics: [logLoss(), metric(result)] });
  expect(await failure(train(config))).toContain(message);
  expect(existsSync(config.training.outputDir)).toBe(false);
});

test("numbers that are not finite are a metric's to give; every shipped one can be tried", () => {
  const [logits, labels] = [Float32Array.of(0, 0), [1]];
  const rows = [{ kind: "text", id: "0", file: "a.csv", line: 2, label: 1 }];
  expect(scoreLogits(scoredClasses(logits, labels, 2), [metric(() => ({ a: NaN }))], classification, rows)).toEqual({
    eval_loss: Math.log(2),
    eval_a: NaN,
  });
  const shipped = [accuracy(), auc(), brier(), confusion(), ece(), f1(), logLoss(), mcc()];
  for (const numLabels of [2, 3, 200]) expect(() => validateMetrics(shipped, classification, numLabels)).not.toThrow();
});
