/** Places and options that cannot be meant: told before anything is written or loaded. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, ModelError } from "../../core/errors.ts";
import { crossValidate, dryRun, openModel, train } from "../../index.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { writeSafetensors } from "../../runtime/files/folder.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { createRunFolder } from "../../runtime/folder/folder.ts";
import { openAdapterRun } from "../../runtime/inference/adapter-run.ts";
import { loadTrainingData } from "../../runtime/run/data.ts";
import { resolveResume } from "../../runtime/run/resume.ts";
import { averageAdapters } from "../../sdk/average.ts";
import { checkOutputFolder } from "../../sdk/merge/output-folder.ts";
import { failure } from "../support/failure.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";
import { taskOptions } from "../../runtime/config/task-options.ts";

test("a file where a run's folder is meant", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "rows.jsonl");
  await writeFile(file, '{"text":"a","label":0}\n{"text":"b","label":1}\n');
  const [read, made] = await Promise.allSettled([findAdapter(file), createRunFolder(file, true)]);
  expect((read as PromiseRejectedResult).reason).toBeInstanceOf(ModelError);
  expect(String((read as PromiseRejectedResult).reason)).toContain("there is no adapter_config.json");
  expect((made as PromiseRejectedResult).reason).toBeInstanceOf(ConfigError);
  expect(String((made as PromiseRejectedResult).reason)).toContain(`outputDir: ${file} is a file, expected a folder`);
});

test("a record that is none, and a base model that is not here", async () => {
  await using folder = await temporaryFolder();
  await writeFile(
    join(folder.path, "adapter_config.json"),
    '{"peft_type":"LORA","base_model_name_or_path":"/none/here","r":1,"lora_alpha":1,"target_modules":["q_proj"]}',
  );
  const head = { dtype: "F32", shape: [3, 128], data: new Float32Array(3 * 128) } as const;
  await writeSafetensors(join(folder.path, "adapter_model.safetensors"), [["base_model.model.score.weight", head]]);
  const trained = await findAdapter(folder.path);
  const plugins = { shipped: [gemma2, lora], from: folder.path };
  const opened = openAdapterRun({ run: folder.path }, trained, plugins, undefined);
  expect(await failure(opened)).toContain(`${folder.path}: its base model, the folder /none/here, is not here`);
  for (const text of ["{half", "null", "{}"]) {
    await writeFile(join(folder.path, "run.json"), text);
    expect(await failure(findAdapter(folder.path))).toContain(
      `${join(folder.path, "run.json")}: expected the record of a run`,
    );
  }
});

test("a file where a folder is to be written", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "rows.jsonl");
  await writeFile(file, "{}");
  const expected = `ConfigError: ${file}: is a file, expected a new or empty folder`;
  expect(await failure(averageAdapters({ adapters: ["a", "b"], outputDir: file }))).toBe(expected);
  expect(await failure(checkOutputFolder(file, true))).toBe(expected);
});

test("an adapter to start from that is not there, before the base model is looked for or anything is written", async () => {
  await using folder = await temporaryFolder();
  const nothing = join(folder.path, "nothing");
  const rows = join(folder.path, "rows.jsonl");
  await writeFile(rows, '{"text":"a","label":0}\n{"text":"b","label":1}\n');
  const parts = { model: gemma2({ checkpoint: join(folder.path, "no-base") }) };
  const run = { outputDir: join(folder.path, "run") };
  const config = await smallRun(folder.path, { ...parts, training: { ...run, initAdapter: nothing } });
  const wanted = `training.initAdapter: ${nothing} does not exist, expected the folder of a PEFT adapter`;
  for (const act of [train(config), dryRun(config), crossValidate(config, 2), openModel(config)])
    expect(await failure(act)).toContain(wanted);
  expect(existsSync(run.outputDir)).toBe(false);
  const start = (initAdapter: string, overwriteOutputDir = false): Promise<string> =>
    failure(resolveResume(trainingOptions.parse({ ...run, initAdapter, overwriteOutputDir })));
  expect(await start(rows)).toContain(`${rows} is a file, expected`);
  expect(await start(folder.path)).toContain(`${folder.path} holds no adapter_model.safetensors, expected`);
  await writeFile(join(folder.path, "adapter_model.safetensors"), "");
  expect(await start(folder.path)).toBe("no error");
  const inside = join(run.outputDir, "checkpoint-7");
  await mkdir(inside, { recursive: true });
  await writeFile(join(inside, "adapter_model.safetensors"), "");
  expect(await start(inside, true)).toContain(`got ${inside}, which overwriteOutputDir removes`);
  expect(await start(inside)).toBe("no error");
  await writeFile(join(run.outputDir, "adapter_model.safetensors"), "");
  expect(await start(run.outputDir, true)).toContain(`got ${run.outputDir}, which overwriteOutputDir removes`);
});

test("a dry run says what the run would say of its folder, its checkpoint and its loss, and changes nothing", async () => {
  await using folder = await temporaryFolder();
  const run = join(folder.path, "run");
  const dry = async (training: object): Promise<string> =>
    failure(dryRun(await smallRun(folder.path, { training, device: { tier: "f32" } })));
  await mkdir(join(run, "checkpoint-9.tmp-1-1"), { recursive: true });
  expect(await dry({ resumeFromCheckpoint: true })).toContain(`resumeFromCheckpoint: ${run} holds no checkpoint`);
  expect(await dry({ loss: "soft-label" })).toContain("training.loss: got soft-label without");
  await writeFile(join(run, "run.json"), "{}");
  const taken = `ConfigError: outputDir: ${run} already holds a run`;
  expect(await dry({})).toBe(taken);
  expect(await failure(train(await smallRun(folder.path)))).toBe(taken);
  if (tiers.length > 0) expect(await dry({ overwriteOutputDir: true })).toBe("no error");
  expect((await readdir(run)).toSorted()).toEqual(["checkpoint-9.tmp-1-1", "run.json"]);
});

test("evaluating on nothing is refused; on files or on a fold it is not", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "rows.jsonl");
  await writeFile(file, '{"text":"a","label":0}\n{"text":"b","label":1}\n');
  const load = (data: object, evalStrategy: string) =>
    loadTrainingData({
      data: dataOptions.parse({ trainFiles: [file], ...data }, "data"),
      task: taskOptions.parse({}, "task"),
      training: trainingOptions.parse({ evalStrategy }, "training"),
    });
  expect(await failure(load({}, "epoch"))).toContain(
    'training.evalStrategy: got "epoch", but neither data.evalFiles nor data.nSplits',
  );
  expect((await load({}, "no")).evaluation).toBeUndefined();
  expect((await load({ evalFiles: [file] }, "epoch")).evaluation!.rows).toHaveLength(2);
  expect((await load({ nSplits: 2 }, "steps")).evaluation!.rows).toHaveLength(1);
});
