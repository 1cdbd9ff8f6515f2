import { expect, test } from "bun:test";
import { groupedMetric } from "../../core/index.ts";
import { accuracy, auc } from "../../plugins/index.ts";

const row = (label: number, extra?: Record<string, unknown>) => ({
  kind: "text",
  id: "0",
  file: "a.csv",
  line: 2,
  label,
  extra,
});
const groupOf = ({ extra }: { extra?: Readonly<Record<string, unknown>> | undefined }) =>
  extra?.["topic"] as string | undefined;

test("numbers of all rows, then of each group by name; a row without the column is in none", () => {
  const make = () => accuracy().create({ numLabels: 2 });
  const metric = groupedMetric({ numLabels: 2, make, groupOf });
  metric.add(Float32Array.of(1, 0, 0, 1), [0, 0], [row(0, { topic: "Zürich 2" }), row(0, { topic: "art" })]);
  metric.add(Float32Array.of(0, 1, 0, 1), [1, 1], [row(1), row(1, { topic: "Zürich 2" })]);
  expect(metric.result()).toEqual({ accuracy: 3 / 4, accuracy_art: 0, accuracy_z_rich_2: 1 });
  expect(Object.keys(metric.result())).toEqual(["accuracy", "accuracy_z_rich_2", "accuracy_art"]);
});

test("a metric that must see a group whole gets it, whatever the batches", () => {
  const make = () => auc().create({ numLabels: 2 });
  const metric = groupedMetric({ numLabels: 2, make, groupOf });
  const scores = [0.1, 0.4, 0.35, 0.8];
  const labels = [0, 0, 1, 1];
  scores.forEach((score, i) => metric.add(Float32Array.of(0, score), [labels[i]!], [row(labels[i]!, { topic: "t" })]));
  expect(metric.result()["auc_t"]).toBe(0.75); // scikit-learn's example of roc_auc_score
});
