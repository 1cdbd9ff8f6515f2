import { defineRequest } from "../core/options/request.ts";
import type { BaseRow } from "../core/plugin/data-format.ts";
import { type Metric, type MetricPlugin, tasksOf } from "../core/plugin/metric.ts";
import type { Task } from "../core/plugin/task.ts";
import { normalValues, uniformValues } from "../core/util/random.ts";
import { type Check, errorOf, expectThat } from "./contract.ts";

/** What the metric contract is held with. */
export interface MetricContractOptions {
  /** Numbers of classes (outputs, labels) to try. Default 2, 3 and 5; of a regression 1 and 3, of a reward model 2. */
  readonly numLabels?: readonly number[];
  /** Rows of the random logits. Default 97. */
  readonly rows?: number;
  /** How far sums in another order may differ, relative. Default 1e-12. */
  readonly tolerance?: number;
  readonly seed?: number;
}

const checkOptions = defineRequest<MetricContractOptions>("metricContract", {
  numLabels: "number[]?",
  rows: "number.integer >= 1?",
  tolerance: "number >= 0?",
  seed: "number?",
});

type Result = Readonly<Record<string, number>>;

/** Rows of logits with labels, and ways of giving them to a metric. */
class Rows {
  readonly logits: Float32Array;
  readonly labels: readonly number[];
  readonly numLabels: number;

  constructor(logits: Float32Array, labels: readonly number[], numLabels: number) {
    this.logits = logits;
    this.labels = labels;
    this.numLabels = numLabels;
  }

  get count(): number {
    return this.logits.length / this.numLabels;
  }

  /** Adds the rows `order` names to `metric`, `batch` at a time. */
  add(metric: Metric, batch: number, order: readonly number[] = Array.from({ length: this.count }, (_, i) => i)): void {
    const width = this.labels.length / this.count;
    for (let at = 0; at < order.length; at += batch) {
      const members = order.slice(at, at + batch);
      const logits = new Float32Array(members.length * this.numLabels);
      members.forEach((row, i) => logits.set(this.row(row), i * this.numLabels));
      const labels = Float64Array.from(members.flatMap((row) => this.labels.slice(row * width, (row + 1) * width)));
      metric.add(
        logits,
        labels,
        members.map((row) => rowOf(row, this.labels[row])),
      );
      logits.fill(Number.NaN); // the caller's arrays are its own: evaluation uses them again
      labels.fill(Number.NaN);
    }
  }

  row(index: number): Float32Array {
    return this.logits.subarray(index * this.numLabels, (index + 1) * this.numLabels);
  }
}

/** A made-up row of a file, with no column of its own. */
const rowOf = (index: number, label: number | undefined): BaseRow => ({
  kind: "text",
  id: String(index),
  file: "contract",
  line: index + 1,
  label,
});

/** Random rows in which every class appears; of a regression random targets, of labels each now and then. */
function randomRows(count: number, numLabels: number, seed: number, task: Task): Rows {
  if (task === "regression" || task === "multi-label") {
    const targets = [...normalValues(count * numLabels, 2, seed, "targets")];
    const labels = task === "regression" ? targets : targets.map((value) => (value > 0 ? 1 : 0));
    return new Rows(normalValues(count * numLabels, 2, seed, "logits"), labels, numLabels);
  }
  const draws = uniformValues(count, 0.5, seed, "labels");
  const labels = Array.from(draws, (u, i) =>
    i < numLabels ? i : Math.min(numLabels - 1, Math.floor((u + 0.5) * numLabels)),
  );
  return new Rows(normalValues(count * numLabels, 2, seed, "logits"), labels, numLabels);
}

function shuffled(count: number, seed: number): number[] {
  const keys = uniformValues(count, 1, seed, "order");
  return [...keys.keys()].sort((a, b) => keys[a]! - keys[b]!);
}

const show = (result: Result): string =>
  Object.entries(result)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");

function expectSame(got: Result, want: Result, tolerance: number, what: string): void {
  const same = Object.keys(want).every((key) => {
    const [a, b] = [got[key], want[key]!];
    return Object.is(a, b) || (a !== undefined && Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)));
  });
  expectThat(
    same && Object.keys(got).length === Object.keys(want).length,
    `${what}: ${show(got)}, expected ${show(want)}`,
  );
}

function expectNumbers(result: Result, names: readonly string[], what: string): void {
  for (const [key, value] of Object.entries(result)) {
    expectThat(
      typeof value === "number",
      `${what}: ${key} is ${String(value)}, expected a number (NaN where undefined)`,
    );
  }
  expectThat(
    Object.keys(result).join() === names.join(),
    `${what}: named ${Object.keys(result).join()}, expected ${names.join()}`,
  );
}

/**
 * What evaluation relies on of every metric, as named checks: it sees the rows in any order and in batches of any size,
 * each array only during the call.
 * @example for (const { name, run } of metricContract(auc())) test(name, run);
 */
export function metricContract(plugin: MetricPlugin, options: MetricContractOptions = {}): readonly Check[] {
  const { numLabels: given, rows: count = 97, tolerance = 1e-12, seed = 1 } = checkOptions(options);
  const [task = "classification"] = tasksOf(plugin);
  const sizes = given ?? { classification: [2, 3, 5], regression: [1, 3], "multi-label": [1, 4], reward: [2] }[task];
  return sizes.flatMap((numLabels) => {
    const rows = randomRows(count, numLabels, seed, task);
    const create = (): Metric => plugin.create({ numLabels, task });
    const scored = (subject: Rows, batch = count, order?: readonly number[]): Result => {
      const metric = create();
      subject.add(metric, batch, order);
      return metric.result();
    };
    const check = (name: string, run: () => void): Check => ({
      name: `${plugin.name}, ${numLabels} classes: ${name}`,
      run: async () => run(),
    });
    const names = (): string[] => Object.keys(scored(rows));

    return [
      check("gives finite numbers under names fit for a log", () => {
        const result = scored(rows);
        expectThat(names().length > 0, "the result names nothing");
        for (const [key, value] of Object.entries(result)) {
          expectThat(/^[a-z][a-z0-9_]*$/.test(key), `the name "${key}" is not lower case with underscores`);
          expectThat(Number.isFinite(value), `${key} is ${value} for ordinary rows, expected a finite number`);
        }
      }),
      check("the order of rows does not matter", () => {
        for (let k = 0; k < 3; k++)
          expectSame(scored(rows, 8, shuffled(count, seed + k)), scored(rows, 8), tolerance, "rows in another order");
      }),
      check("batches and their buffers do not matter", () => {
        for (const batch of [1, 7, count])
          expectSame(scored(rows, batch), scored(rows, 16), tolerance, `batches of ${batch}`);
      }),
      check("reading the result changes nothing", () => {
        const metric = create();
        const order = Array.from({ length: count }, (_, i) => i);
        rows.add(metric, 8, order.slice(0, 40));
        metric.result();
        rows.add(metric, 8, order.slice(40));
        expectSame(metric.result(), scored(rows, 8), tolerance, "after a result in the middle");
        expectSame(metric.result(), scored(rows, 8), tolerance, "read twice");
      }),
      check("two evaluations share nothing", () => {
        const [first, second] = [create(), create()];
        rows.add(first, 8);
        rows.add(second, 8);
        expectSame(second.result(), first.result(), 0, "a second evaluation");
      }),
      check("no rows, one class and a NaN logit give numbers under the same names", () => {
        expectNumbers(create().result(), names(), "no rows");
        for (let c = 0; c < Math.max(2, numLabels); c++) {
          if (task === "multi-label" && c > 1) break;
          expectNumbers(
            scored(
              new Rows(
                rows.logits,
                rows.labels.map(() => c),
                numLabels,
              ),
            ),
            names(),
            `labels all ${c}`,
          );
        }
        const logits = rows.logits.slice();
        logits[1] = Number.NaN;
        expectNumbers(scored(new Rows(logits, rows.labels, numLabels)), names(), "a NaN logit");
      }),
      check("huge logits give numbers", () => {
        const result = scored(
          new Rows(
            rows.logits.map((x) => x * 1e30),
            rows.labels,
            numLabels,
          ),
        );
        for (const [key, value] of Object.entries(result))
          expectThat(!Number.isNaN(value), `${key} is NaN for logits of 1e30`);
      }),
      check("a label that is no class and sizes that do not fit are refused", () => {
        const logits = new Float32Array(2 * numLabels);
        const width = rows.labels.length / count;
        const two = [rowOf(0, 0), rowOf(1, 0)];
        const labels = (last: number): number[] => [...new Array<number>(2 * width - 1).fill(0), last];
        const bad = width === numLabels && task !== "classification" ? [Number.NaN, Infinity] : [numLabels, -1, 0.5];
        for (const label of bad) errorOf(() => create().add(logits, labels(label), two), `label ${label}`);
        errorOf(
          () => create().add(logits, labels(0).slice(width), two.slice(1)),
          "twice the logits that one label needs",
        );
      }),
    ];
  });
}
