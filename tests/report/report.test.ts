import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { writeReport } from "../../runtime/report/index.ts";
import { longEvaluation, longHistory, record, runFolder, type RunFiles } from "./runs.ts";

/** The report of a run's files, as text. */
async function reportOf(files: RunFiles): Promise<string> {
  using folder = await runFolder(files);
  return await Bun.file(await writeReport(folder.path)).text();
}

/** What a reader sees of markup: no tags, entities resolved. */
function visible(html: string): string {
  const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', "#39": "'", amp: "&", nbsp: " " };
  return html
    .replace(/<(style|script)\b[\s\S]*?<\/\1>/g, " ")
    .replace(/<[^>]*>/g, " ")
    .replace(/&(lt|gt|quot|#39|amp|nbsp);/g, (_, name: string) => entities[name]!)
    .replace(/\s+/g, " ");
}

/** Exact values of `<data value>` in a part of the page. */
function values(html: string): number[] {
  return [...html.matchAll(/<data value="([^"]*)">/g)].map(([, value]) => Number(value));
}

/** What the read-out of a chart says at each step. */
function readings(html: string, title: string): [step: number, text: string, heights: (number | null)[]][] {
  const figure = html.split("<figure").find((part) => part.includes(`>${title}<`) || part.includes(`>${title} <`))!;
  return JSON.parse(/<script type="application\/json">(.*?)<\/script>/.exec(figure)![1]!) as ReturnType<
    typeof readings
  >;
}

const shortHistory = [
  { epoch: 0.5, step: 1, loss: 1.7052589356899261, grad_norm: 21.708660125732422, learning_rate: 0 },
  { epoch: 1, step: 2, loss: 1.0291303098201752, grad_norm: 16.41971778869629, learning_rate: 5e-5 },
  {
    epoch: 1,
    step: 2,
    eval_loss: 1.155538715530197,
    eval_log_loss: 1.155538715530197,
    eval_accuracy: 0.34,
    eval_runtime: 1.25,
    eval_samples_per_second: 40,
  },
  { epoch: 1.5, step: 3, loss: 1.0165714919567108, grad_norm: 19.127241134643555, learning_rate: 1e-4 },
  { epoch: 2, step: 4, loss: 0.9811, grad_norm: 4.5, learning_rate: 0 },
  {
    epoch: 2,
    step: 4,
    eval_loss: 0.9856760822300912,
    eval_log_loss: 0.9856760822300912,
    eval_accuracy: 0.46,
    eval_runtime: 1.5,
    eval_samples_per_second: 33.33,
  },
  {
    epoch: 2,
    step: 4,
    train_loss: 1.1830151843667,
    train_runtime: 133.4,
    train_samples_per_second: 0.48,
    train_steps_per_second: 0.03,
    total_flos: 0,
  },
];
const short = { "run.json": { ...record, totalSteps: 4 }, "metrics.jsonl": shortHistory };

describe("numbers", () => {
  test("the headline says what the log says", async () => {
    const html = await reportOf({ ...short, "trainer_state.json": { num_input_tokens_seen: 12_345_678 } });
    const headline = html.slice(html.indexOf('<dl class="figures">'), html.indexOf("</dl>"));
    expect(values(headline)).toEqual([0.9856760822300912, 0.46, 0.9811, 1.1830151843667, 4, 12_345_678, 0.48, 133.4]);
    const text = visible(headline);
    for (const words of [
      "Eval log loss 0.9857",
      "Eval accuracy 46.0 %",
      "Train loss 0.9811 last logged; mean 1.1830",
      "Tokens 12.3 M",
      "Time 2 min 13 s",
      "NVIDIA H100 80GB HBM3 tier matrix, webgpu",
    ]) {
      expect(text).toContain(words);
    }
    expect(visible(html)).toContain("Finished : 4 of 4 steps, 2.00 epochs; started 2025-03-01 12:30 UTC");
    expect(visible(html)).toContain("batch 32 (2 × 16)");
  });

  test("the tables hold every value of the log, to the last digit", async () => {
    const html = await reportOf(short);
    const log = html.slice(html.indexOf('<details class="log">'), html.indexOf('<h2 id="evaluations">'));
    const training = shortHistory.filter((entry) => entry.loss !== undefined);
    expect(values(log)).toEqual(
      training.flatMap(({ step, loss, grad_norm: norm, learning_rate: rate }) => [step, loss, norm, rate]),
    );
    const table = html.slice(html.indexOf('<h2 id="evaluations">'), html.indexOf('<h2 id="setup">'));
    const evaluations = shortHistory.filter((entry) => entry.eval_loss !== undefined);
    expect(values(table)).toEqual(
      evaluations.flatMap((e) => [
        e.step,
        e.eval_loss,
        e.eval_log_loss,
        e.eval_accuracy,
        e.eval_runtime,
        e.eval_samples_per_second,
      ]),
    );
    expect([...table.matchAll(/<b class="best"><data value="([^"]*)"/g)].map(([, value]) => value)).toEqual([
      "0.9856760822300912",
      "0.9856760822300912",
      "0.46",
    ]);
  });

  test("read-outs give step, epoch and values, and each point its place on the axis", async () => {
    const html = await reportOf(short);
    expect(readings(html, "Loss").map(([step, text]) => [step, text])).toEqual([
      [1, "step 1 · epoch 0.50 · train 1.7053"],
      [2, "step 2 · epoch 1.00 · train 1.0291 · eval 1.1555"],
      [3, "step 3 · epoch 1.50 · train 1.0166"],
      [4, "step 4 · epoch 2.00 · train 0.9811 · eval 0.9857"],
    ]);
    // Ticks of the learning rate run from 0 at the bottom to 1e-4 at the top.
    expect(readings(html, "Learning rate").map(([, , [height]]) => height)).toEqual([1, 0.5, 0, 1]);
  });

  test("values that JSON cannot hold are shown as not finite, and break the line", async () => {
    const html = await reportOf({
      "run.json": record,
      "metrics.jsonl": [
        { epoch: 0, step: 1, loss: 1 },
        { epoch: 0, step: 2, loss: null },
        { epoch: 0, step: 3, loss: 2 },
        { epoch: 0, step: 4, loss: 1.5 },
      ],
    });
    expect(visible(html)).toContain("× not finite: 1");
    expect(readings(html, "Loss")[1]).toEqual([2, "step 2 · epoch 0.00 · not finite", [null]]);
    const path = /<path class="line train" d="([^"]*)"/.exec(html)![1]!;
    expect(path.match(/M/g)).toHaveLength(2);
    expect(html).not.toContain("NaN");
  });

  test("an unfinished run says so", async () => {
    const html = await reportOf({ ...short, "run.json": record, "metrics.jsonl": shortHistory.slice(0, 4) });
    expect(visible(html)).toContain("Not finished : 3 of 2,434 steps");
  });

  test("a long log is thinned without losing its extremes, and the table says so", async () => {
    const entries = Array.from({ length: 6000 }, (_, i) => ({
      epoch: i / 6000,
      step: i + 1,
      loss: i === 3210 ? 77.125 : 1 + (i % 7) / 100,
    }));
    const html = await reportOf({ "run.json": record, "metrics.jsonl": entries });
    const shown = readings(html, "Loss");
    expect(shown.length).toBeLessThan(1100);
    expect(shown.map(([step]) => step)).toContain(3211);
    expect(shown.at(-1)![0]).toBe(6000);
    expect(visible(html)).toContain("6,000 entries, every 12th shown; metrics.jsonl has them all");
  });
});

describe("whatever the folder holds", () => {
  test("texts are escaped wherever they come from", async () => {
    const evil = `</script><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;`;
    const html = await reportOf({
      "run.json": {
        ...record,
        qlora: evil,
        device: { ...record.device, adapter: { description: evil } },
        config: { ...record.config, [evil]: evil, model: { name: evil, options: { checkpoint: evil } } },
      },
      "metrics.jsonl": [{ epoch: 1, step: 1, [`eval_${evil}`]: 1 }],
      "evaluation.json": {
        step: 1,
        numLabels: 2,
        labels: [0, 1],
        probabilities: [
          [1, 0],
          [0.5, 0.5],
        ],
        labelNames: [evil, "b"],
      },
    });
    expect(html.match(/<script/g)).toHaveLength(1 + html.match(/<script type="application\/json">/g)!.length);
    expect(html).not.toContain("<img");
    expect(html).not.toContain("alert(&quot;1&quot;)</script>");
    expect(visible(html)).toContain(evil);
  });

  test("a run without a single log renders", async () => {
    const html = await reportOf({ "run.json": record });
    for (const words of ["Not a step logged yet", "Nothing is logged yet.", "No evaluation so far."])
      expect(visible(html)).toContain(words);
    expect(html.slice(html.indexOf("<main>"), html.indexOf("</main>"))).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("waiting for other ranks is told beyond 5 % of the time, by the rank that waits most", async () => {
    const render = (waiting: readonly number[]): Promise<string> =>
      reportOf({
        "run.json": {},
        "metrics.jsonl": waiting.map((share, i) => ({
          epoch: 0.5,
          step: i + 1,
          loss: 1,
          world_size: 2,
          rank_0_waiting: 0.01,
          rank_1_waiting: share,
        })),
      });
    const page = await render([0.1, 0.3]);
    expect(page).toContain("Waiting for others");
    expect(visible(page)).toContain("Waiting for others 20 % of its time by rank 1 of 2");
    expect(await render([0.04, 0.05])).not.toContain("Waiting for others");
  });

  test("a bare run.json and a single point render", async () => {
    const html = await reportOf({
      "run.json": {},
      "metrics.jsonl": [{ epoch: 0.01, step: 1, loss: 0.7, grad_norm: 0, learning_rate: 0 }],
    });
    expect(readings(html, "Loss")).toEqual([[1, "step 1 · epoch 0.01 · 0.7000", [0.5]]]);
    expect(html.slice(html.indexOf("<main>"), html.indexOf("</main>"))).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("half a last line is left out; a damaged line elsewhere is an error with its place", async () => {
    const line = JSON.stringify({ epoch: 1, step: 7, loss: 0.5 });
    expect(visible(await reportOf({ "run.json": record, "metrics.jsonl": `${line}\n{"epoch": 1, "st` }))).toContain(
      "7 of 2,434 steps",
    );
    const damaged = await reportOf({ "run.json": record, "metrics.jsonl": `${line}\nhello\n${line}\n` }).catch(
      (error: unknown) => error,
    );
    expect(damaged).toBeInstanceOf(QloraError);
    expect((damaged as QloraError).code).toBe("METRICS_DAMAGED");
    expect((damaged as QloraError).message).toContain("metrics.jsonl:2:");
  });

  test("no run, and an evaluation that does not fit, are told apart", async () => {
    const codeOf = (files: RunFiles) => reportOf(files).catch((error: QloraError) => `${error.code} ${error.message}`);
    expect(await codeOf({ "other.txt": "x" })).toStartWith("RUN_NOT_FOUND");
    expect(await codeOf({ "run.json": "[1" })).toStartWith("RUN_RECORD_INVALID");
    const evaluation = {
      step: 1,
      numLabels: 2,
      labels: [0, 2],
      probabilities: [
        [0.5, 0.5],
        [0.5, 0.6],
      ],
      lengths: [1],
    };
    const message = await codeOf({ "run.json": record, "evaluation.json": evaluation });
    for (const words of [
      "EVALUATION_INVALID",
      "labels is no list of classes below 2",
      "probabilities[1]",
      "lengths is no list of 2",
    ]) {
      expect(message).toContain(words);
    }
  });

  test("the page needs nothing but itself, and the same files give the same bytes", async () => {
    const files = { "run.json": record, "metrics.jsonl": longHistory(), "evaluation.json": longEvaluation() };
    using folder = await runFolder(files);
    const html = await Bun.file(await writeReport(folder.path)).text();
    expect(html).not.toMatch(/\b(?:src|href|srcset|action)="(?!data:,")|url\(|@import|https?:/);
    expect(html).toContain("default-src &#39;none&#39;");
    expect(await Bun.file(await writeReport(folder.path)).text()).toBe(html);
    expect(readdirSync(folder.path).sort()).toEqual(["evaluation.json", "metrics.jsonl", "report.html", "run.json"]);
    expect(join(folder.path, "report.html")).toEndWith("gemma-2-9b-fold-0/report.html");
  });
});
