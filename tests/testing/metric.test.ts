import { describe, expect, test } from "bun:test";
import { defineMetric, defineOptions, eachRow, type MetricPlugin } from "../../core/index.ts";
import {
  accuracy,
  auc,
  brier,
  confusion,
  ece,
  f1,
  logLoss,
  mae,
  mcc,
  mse,
  multiLabelF1,
  pairAccuracy,
  pearson,
  spearman,
} from "../../plugins/index.ts";
import { metricContract } from "../../testing/index.ts";

const shipped = [
  accuracy(),
  auc(),
  auc({ multiClass: "ovo" }),
  brier(),
  confusion(),
  confusion({ normalize: "true" }),
  ece(),
  f1(),
  f1({ average: "micro" }),
  f1({ average: "weighted" }),
  logLoss(),
  mcc(),
  mse(),
  mae(),
  pearson(),
  spearman(),
  multiLabelF1(),
  pairAccuracy(),
];

for (const plugin of shipped) {
  describe(`${plugin.name} ${JSON.stringify(plugin.input)}`, () => {
    for (const { name, run } of metricContract(plugin)) test(name, run);
  });
}

describe("broken metrics are caught", () => {
  type Add = (
    logits: Float32Array,
    labels: ArrayLike<number>,
    state: { sum: number; rows: number; kept: Float32Array[] },
  ) => void;

  /** A metric named by `names`, whose `add` and `result` are wrong in one way. */
  const broken = (
    add: Add,
    result = (s: { sum: number; rows: number; kept: Float32Array[] }) => s.sum / s.rows,
    name = "x",
  ) =>
    defineMetric({
      name: "broken",
      options: defineOptions({}),
      create(_options, { numLabels }) {
        const state = { sum: 0, rows: 0, kept: [] as Float32Array[] };
        return {
          add(logits, labels) {
            eachRow(logits, labels, numLabels, () => {});
            add(logits, labels, state);
          },
          result: () => ({ [name]: result(state) }),
        };
      },
    })();

  const failing = async (plugin: MetricPlugin): Promise<string[]> => {
    const failed: string[] = [];
    for (const { name, run } of metricContract(plugin, { numLabels: [3] })) {
      const ok = await run().then(
        () => true,
        () => false,
      );
      if (!ok) failed.push(name.replace("broken, 3 classes: ", ""));
    }
    return failed;
  };

  test("a mean of batch means", async () => {
    const plugin = broken((logits, labels, s) => {
      s.sum += logits[0]! / labels.length;
      s.rows++;
    });
    expect(await failing(plugin)).toContain("batches and their buffers do not matter");
    expect(await failing(plugin)).toContain("the order of rows does not matter");
  });

  test("the caller's array kept", async () => {
    const plugin = broken(
      (logits, labels, s) => {
        s.kept.push(logits);
        s.rows += labels.length;
      },
      (s) => s.kept.reduce((sum, logits) => sum + logits[0]!, 0) / s.rows,
    );
    expect(await failing(plugin)).toContain("gives finite numbers under names fit for a log");
  });

  test("a result that empties itself", async () => {
    const plugin = broken(
      (_logits, labels, s) => void (s.rows += labels.length),
      (s) => {
        const { rows } = s;
        s.rows = 0;
        return rows;
      },
    );
    expect(await failing(plugin)).toEqual(["reading the result changes nothing"]);
  });

  test("a name unfit for a log, and unchecked labels", async () => {
    expect(
      await failing(
        broken(
          (_l, labels, s) => void (s.rows += labels.length),
          () => 1,
          "My Metric",
        ),
      ),
    ).toEqual(["gives finite numbers under names fit for a log"]);
    const unchecked = defineMetric({
      name: "broken",
      options: defineOptions({}),
      create: () => ({ add() {}, result: () => ({ x: 1 }) }),
    })();
    expect(await failing(unchecked)).toEqual(["a label that is no class and sizes that do not fit are refused"]);
  });
});
