/** Fifty optimizer steps against transformers + peft (+ bitsandbytes): losses, norms, rates, final evaluation, adapter files. */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig, trainer } from "../../index.ts";
import { adamW, adamW8bit, accuracy, gemma2, logLoss, lora } from "../../plugins/index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";

interface TrainLog {
  readonly history: readonly { readonly loss: number; readonly grad_norm: number; readonly learning_rate: number }[];
  readonly eval_after: { readonly log_loss: number; readonly acc: number };
}

const LIMITS = {
  f32: { loss: 1e-3, norm: 0.01, evaluation: 1e-3 },
  f16: { loss: 2.6e-2, norm: undefined, evaluation: 5e-3 },
  matrix: { loss: 2.6e-2, norm: undefined, evaluation: 5e-3 },
} as const;

const provider = (process.env["QLORA_TEST_GPU"] ?? "auto") as "auto" | "bun-webgpu" | "webgpu";
const data = goldenPath("pandalm");

for (const [name, optimizer] of [
  ["train-adamw", adamW()],
  ["train-adamw8bit", adamW8bit()],
] as const) {
  for (const tier of tiers) {
    describe(`${name}, tier ${tier}`, () => {
      test("fifty steps", async () => {
        const folder = goldenPath(name);
        const golden = JSON.parse(await readFile(join(folder, "train_log.json"), "utf8")) as TrainLog;
        const outputDir = await mkdtemp(join(tmpdir(), "qlora-train-"));
        const config = defineConfig({
          model: gemma2({ checkpoint: tinyCheckpoint }),
          adapter: lora({
            rank: 64,
            alpha: 32,
            targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"],
            layersToTransform: [1, 2, 3],
          }),
          optimizer,
          metrics: [logLoss(), accuracy()],
          data: {
            trainFiles: [join(data, "pandalm-1.csv"), join(data, "pandalm-2.csv")],
            maxLength: 128,
            nSplits: 20,
            foldIdx: 0,
          },
          training: {
            outputDir,
            perDeviceTrainBatchSize: 4,
            gradientAccumulationSteps: 4,
            tokenBudget: 1024,
            learningRate: 5e-4,
            warmupSteps: 10,
            maxSteps: 50,
            shuffle: false,
            loggingSteps: 1,
            evalStrategy: "epoch",
            initAdapter: goldenPath("train-adamw", "adapter-start"),
          },
          device: { gpu: provider, tier },
        });
        const limits = LIMITS[tier];
        const steps = trainer(config);
        let worstLoss = 0;
        let worstNorm = 0;
        let updates = 0;
        for (;;) {
          const { done, value } = await steps.next();
          if (done === true) {
            expect(Math.abs(value.metrics["eval_log_loss"]! - golden.eval_after.log_loss)).toBeLessThanOrEqual(
              limits.evaluation,
            );
            console.log(
              `${name} ${tier}: worst loss difference ${worstLoss.toExponential(1)}, worst norm ${worstNorm.toExponential(1)}, ` +
                `eval log loss ${value.metrics["eval_log_loss"]} (want ${golden.eval_after.log_loss})`,
            );
            break;
          }
          const want = golden.history[value.step - 1]!;
          worstLoss = Math.max(worstLoss, Math.abs(value.loss - want.loss));
          if (!value.skipped) worstNorm = Math.max(worstNorm, Math.abs(value.gradNorm / want.grad_norm - 1));
          if (!(Math.abs(value.loss - want.loss) <= limits.loss))
            throw new Error(`step ${value.step}: loss ${value.loss}, want ${want.loss}`);
          if (limits.norm !== undefined) {
            expect(value.skipped).toBe(false);
            if (!(worstNorm <= limits.norm))
              throw new Error(`step ${value.step}: gradient norm ${value.gradNorm}, want ${want.grad_norm}`);
          }
          // A skipped step does not advance the schedule, so rates are compared by the number of updates.
          expect(value.learningRate).toBeCloseTo(golden.history[updates]!.learning_rate, 12);
          if (!value.skipped) updates++;
        }
        await using ours = await openSafetensors(join(outputDir, "adapter_model.safetensors"));
        await using theirs = await openSafetensors(join(folder, "adapter-final", "adapter_model.safetensors"));
        const layout = (file: typeof ours): unknown =>
          [...file.tensors].map(([key, t]) => [key, t.dtype, t.shape, t.begin]);
        expect(layout(ours)).toEqual(layout(theirs));
        const fields = async (path: string): Promise<Record<string, unknown>> =>
          JSON.parse(await readFile(join(path, "adapter_config.json"), "utf8")) as Record<string, unknown>;
        const [mine, peft] = [await fields(outputDir), await fields(join(folder, "adapter-final"))];
        for (const config of [mine, peft]) {
          config["target_modules"] = [...(config["target_modules"] as string[])].sort(); // a set in PEFT
          delete config["base_model_name_or_path"];
        }
        expect(mine).toEqual(peft);
        await rm(outputDir, { recursive: true });
      }, 600_000);
    });
  }
}
