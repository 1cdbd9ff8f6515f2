import type { BaseRow } from "./data-format.ts";
import type { Metric } from "./metric.ts";

/** How rows are grouped. */
export interface MetricGroups {
  readonly numLabels: number;
  /** A fresh metric, for all rows and for each group. */
  readonly make: () => Metric;
  /** The group of a row, such as its column `language`; undefined leaves the row out of every group. */
  readonly groupOf: (row: BaseRow) => string | undefined;
}

/** A group as a part of a name: lower case, with underscores. */
const slug = (group: string): string =>
  group
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "_")
    .replaceAll(/^_+|_+$/g, "");

/**
 * A metric over all rows and over each group of them: `log_loss` and, say, `log_loss_en` and `log_loss_zh`.
 * @example
 * const groups = groupedMetric({
 *   numLabels: 2,
 *   make: () => accuracy().create({ numLabels: 2 }),
 *   groupOf: ({ extra }) => (extra?.["language"] as string | undefined),
 * });
 * const row = { kind: "text", id: "0", file: "rows.csv", line: 2, label: 1, extra: { language: "en" } };
 * groups.add(Float32Array.of(0, 1), [1], [row]);
 * console.log(groups.result()); // { accuracy: 1, accuracy_en: 1 }
 */
export function groupedMetric({ numLabels, make, groupOf }: MetricGroups): Metric {
  const all = make();
  const groups = new Map<string, Metric>();
  return {
    add(logits, labels, rows) {
      all.add(logits, labels, rows);
      const members = new Map<string, number[]>();
      rows.forEach((row, i) => {
        const group = groupOf(row);
        if (group === undefined) return;
        const list = members.get(group);
        if (list === undefined) members.set(group, [i]);
        else list.push(i);
      });
      for (const [group, indices] of members) {
        let metric = groups.get(group);
        if (metric === undefined) groups.set(group, (metric = make()));
        const own = new Float32Array(indices.length * numLabels);
        indices.forEach((index, i) =>
          own.set(logits.subarray(index * numLabels, (index + 1) * numLabels), i * numLabels),
        );
        metric.add(
          own,
          indices.map((index) => labels[index]!),
          indices.map((index) => rows[index]!),
        );
      }
    },
    result() {
      const parts = [...groups].toSorted(([a], [b]) => (a < b ? -1 : 1));
      return {
        ...all.result(),
        ...Object.fromEntries(
          parts.flatMap(([group, metric]) =>
            Object.entries(metric.result()).map(([name, value]) => [`${name}_${slug(group)}`, value] as const),
          ),
        ),
      };
    },
  };
}
