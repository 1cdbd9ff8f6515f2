/** Every system call of a training run and of a cross-validation that changes the disk, failing in turn. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import type { Config } from "../../index.ts";
import { tensorboard } from "../../plugins/index.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { crossValidate } from "../../sdk/cross-validate.ts";
import { verifyRun } from "../../sdk/verify.ts";
import { onMeta, metaConfig, metaGpus, metaTrain } from "../support/meta-run.ts";
import { walk } from "./walk.ts";

const loss = (): number => 0.5;

/** Values of a file that do not depend on the clock. */
async function metrics(run: string): Promise<unknown[]> {
  const lines = (await readFile(join(run, "metrics.jsonl"), "utf8")).trim().split("\n");
  return lines.map((line) => {
    const { step, loss: own, eval_loss: held, train_loss: mean } = JSON.parse(line) as Record<string, number>;
    return [step, own, held, mean];
  });
}

const sha256 = async (path: string): Promise<string> =>
  new Bun.CryptoHasher("sha256").update(await readFile(path)).digest("hex");

/** What a run has come to. */
async function resultOf(run: string): Promise<unknown> {
  const names = await readdir(run);
  const files = ["adapter_model.safetensors", "adapter_config.json", "trainer_state.json", "evaluation.json"];
  const { whole } = await verifyRun(run, { repair: false });
  return {
    whole,
    metrics: await metrics(run),
    checkpoints: names.filter((name) => name.startsWith("checkpoint-")),
    there: ["run.json", "report.html", ...files].filter((name) => !names.includes(name)),
    adapter: await Promise.all(files.slice(0, 2).map((name) => sha256(join(run, name)))),
    ended: JSON.parse(await readFile(join(run, "trainer_state.json"), "utf8")).global_step as number,
  };
}

/** What is said of a run must be so: a part that is called whole, and an adapter that is taken, are. */
async function judge(run: string): Promise<void> {
  if (!existsSync(join(run, "run.json"))) return;
  await verifyRun(run);
  await findAdapter(run);
}

test("a run with checkpoints, evaluation and TensorBoard's files", async () => {
  const configOf = (folder: string, training: object = {}): Promise<Config> =>
    metaConfig(folder, {
      data: { nSplits: 3 },
      training: { saveTotalLimit: 1, evalStrategy: "epoch", maxSteps: 2, ...training },
      reportTo: [tensorboard()],
    });
  let config: Config;
  const walked = await walk({
    name: "train",
    prepare: async (folder) => void (config = await configOf(folder)),
    act: async () => void (await metaTrain(config, {}, metaGpus(loss))),
    async again(folder) {
      const go = async (training: object): Promise<void> =>
        void (await metaTrain(await configOf(folder, training), {}, metaGpus(loss)));
      await go({ resumeFromCheckpoint: true }).catch((error: unknown) => {
        if (!(error instanceof ConfigError) || error.code !== "CHECKPOINT_NOT_FOUND") throw error;
        return go({ overwriteOutputDir: true });
      });
    },
    result: (folder) => resultOf(join(folder, "run")),
    judge: (folder) => judge(join(folder, "run")),
  });
  console.log("failpoints of a run:", JSON.stringify(walked));
  expect(walked.points).toBeGreaterThan(100);
  for (const call of ["open", "write", "fsync", "rename", "mkdir", "unlink"] as const)
    expect(walked.byCall[call]).toBeGreaterThan(0);
}, 240_000);

test("a cross-validation", async () => {
  let config: Config;
  const walked = await walk({
    name: "cv",
    prepare: async (folder) =>
      void (config = await metaConfig(folder, { training: { maxSteps: 1, saveStrategy: "no" } })),
    act: async () => void (await onMeta(metaGpus(loss), () => crossValidate(config, 2))),
    async result(folder) {
      const cv = join(folder, "run");
      const folds = await Promise.all(["fold-0", "fold-1"].map((fold) => resultOf(join(cv, fold))));
      return [folds, await readFile(join(cv, "out-of-fold.csv"), "utf8"), await readFile(join(cv, "cv.json"), "utf8")];
    },
    judge: async (folder) => {
      for (const fold of ["fold-0", "fold-1"]) await judge(join(folder, "run", fold));
    },
  });
  console.log("failpoints of a cross-validation:", JSON.stringify(walked));
  expect(walked.points).toBeGreaterThan(100);
}, 240_000);
