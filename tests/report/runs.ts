/** Run folders for the report's tests, made without training. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EvaluationRecord } from "../../runtime/report/index.ts";
import { random } from "../support/random.ts";

/** Files of a run's folder by name; objects become JSON, lists become lines of JSON. */
export type RunFiles = Readonly<Record<string, unknown>>;

/** A folder of the given files, gone when the test is over. */
export async function runFolder(files: RunFiles): Promise<Disposable & { readonly path: string }> {
  const parent = mkdtempSync(join(tmpdir(), "qlora-report-"));
  const path = join(parent, "gemma-2-9b-fold-0");
  for (const [name, value] of Object.entries(files)) {
    const lines = Array.isArray(value) ? value.map((line) => `${JSON.stringify(line)}\n`).join("") : undefined;
    await Bun.write(join(path, name), typeof value === "string" ? value : (lines ?? JSON.stringify(value)));
  }
  return { path, [Symbol.dispose]: () => rmSync(parent, { recursive: true }) };
}

/** A run.json with every part that a trainer writes. */
export const record = {
  qlora: "0.1.0",
  bun: "1.4.5",
  config: {
    model: { name: "gemma2", options: { checkpoint: "models/gemma-2-9b-it-bnb-4bit", softcap: true } },
    adapter: {
      name: "lora",
      options: {
        rank: 64,
        alpha: 32,
        dropout: 0.05,
        targetModules: ["k_proj", "o_proj", "q_proj", "v_proj", "gate_proj"],
      },
    },
    optimizer: { name: "adamw8bit", options: { betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 } },
    metrics: [
      { name: "log-loss", options: {} },
      { name: "accuracy", options: {} },
    ],
    data: {
      trainFiles: ["data/train.csv", "data/lmsys-33k-deduplicated.csv"],
      evalFiles: [],
      format: "arena",
      maxLength: 1024,
      nSplits: 100,
      foldIdx: 0,
    },
    training: {
      outputDir: "output/gemma-2-9b-fold-0",
      perDeviceTrainBatchSize: 2,
      gradientAccumulationSteps: 16,
      learningRate: 1.7e-4,
      lrSchedulerType: "linear",
      warmupSteps: 20,
      maxGradNorm: 1,
      numTrainEpochs: 1,
      loggingSteps: 10,
      evalStrategy: "steps",
      evalSteps: 250,
      seed: 42,
    },
    device: { gpu: "auto", tier: "auto" },
  },
  device: {
    provider: "webgpu",
    tier: "matrix",
    capabilities: {
      f16: true,
      subgroups: true,
      subgroupSize: 32,
      timestamps: true,
      matrixShapes: [{ m: 16, n: 16, k: 16, component: "f16", result: "f32" }],
    },
    adapter: { vendor: "nvidia", architecture: "hopper", device: "0x2330", description: "NVIDIA H100 80GB HBM3" },
    robustness: false,
  },
  model: { attnLogitSoftcapping: true, slidingWindow: 4096, queryPreAttnScalar: 256 },
  data: { fingerprint: "b5c1f3a29d0e4c7786aa", trainRows: 77877, evalRows: 787, numLabels: 3 },
  trainableParameters: 119745024,
  totalSteps: 2434,
  startedAt: "2025-03-01T12:30:45.000Z",
} as const;

/** A log as a whole run leaves it: 2,434 steps, logged every ten, evaluated every 250; one value is not finite. */
export function longHistory(): Record<string, number | null>[] {
  const next = random(7);
  const noise = (): number => next() + next() + next() + next() - 2;
  const entries: Record<string, number | null>[] = [];
  const total = record.totalSteps;
  let tokens = 0;
  for (let step = 10; step <= total; step += 10) {
    const epoch = step / total;
    const learningRate = step <= 20 ? (1.7e-4 * step) / 20 : (1.7e-4 * (total - step)) / (total - 20);
    const loss = 0.925 + 0.19 * Math.exp(-step / 180) + 0.045 * noise();
    tokens += 10 * 32 * 480;
    entries.push({
      epoch,
      step,
      loss,
      grad_norm: step === 730 ? null : 3.2 + 9 * Math.exp(-step / 90) + 0.7 * Math.abs(noise()),
      learning_rate: learningRate,
      tokens_per_second: 7250 + 320 * noise(),
      num_input_tokens_seen: tokens,
      memory_bytes: 9.4e9,
      skipped_steps: step === 730 ? 1 : 0,
    });
    if (step % 250 === 0) {
      const logLoss = 0.928 + 0.13 * Math.exp(-step / 420) + 0.004 * noise();
      entries.push({
        epoch,
        step,
        eval_loss: logLoss,
        eval_log_loss: logLoss,
        eval_accuracy: 0.556 - 0.11 * Math.exp(-step / 420) + 0.004 * noise(),
        eval_runtime: 61.2 + noise(),
        eval_samples_per_second: 12.9 + 0.2 * noise(),
      });
    }
  }
  const { labels, probabilities } = longEvaluation();
  const losses = labels.map((label, i) => -Math.log(probabilities[i]![label]!));
  const logLoss = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const right = labels.filter((label, i) => Math.max(...probabilities[i]!) === probabilities[i]![label]).length;
  entries.push({
    epoch: 1,
    step: total,
    eval_loss: logLoss,
    eval_log_loss: logLoss,
    eval_accuracy: right / labels.length,
    eval_runtime: 61.4,
    eval_samples_per_second: 12.8,
  });
  entries.push({
    epoch: 1,
    step: total,
    train_loss: 0.9412,
    train_runtime: 53_421.7,
    train_samples_per_second: 1.458,
    train_steps_per_second: 0.0456,
    total_flos: 0,
  });
  return entries;
}

/** Predictions for 787 arena rows, moderately calibrated, with lengths that reach past 1,024 tokens. */
export function longEvaluation(): EvaluationRecord {
  const next = random(11);
  const rows = Array.from({ length: 787 }, () => {
    const logits = [2.4 * (next() + next() - 1), 2.4 * (next() + next() - 1), 1.2 * (next() + next() - 1) - 0.1];
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const probabilities = logits.map((logit) => Math.exp(logit) / total);
    const draw = next();
    const label = draw < probabilities[0]! ? 0 : draw < probabilities[0]! + probabilities[1]! ? 1 : 2;
    const fullLength = Math.round(60 + 2600 * next() ** 3 + 420 * next());
    return { probabilities, label, fullLength };
  });
  return {
    step: 2434,
    numLabels: 3,
    labels: rows.map((row) => row.label),
    probabilities: rows.map((row) => row.probabilities),
    lengths: rows.map((row) => Math.min(1024, row.fullLength)),
    fullLengths: rows.map((row) => row.fullLength),
    maxLength: 1024,
  };
}

/** What sticks out of the page to the right although it is in no box that scrolls. A phone's innerWidth grows with it. */
export const overflow = (
  width: number,
): string => `[document.documentElement.scrollWidth - ${width}, innerWidth - ${width}, ...[...document.querySelectorAll("main *")]
  .filter((e) => e.closest(".scroll") === null && e.getBoundingClientRect().right > ${width} + 0.5)
  .map((e) => e.outerHTML.slice(0, 120))]`;
