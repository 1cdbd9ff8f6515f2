/** Places and options that cannot be meant: told before anything is written or loaded. */
import { expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTrainingData } from "../../core/run-data.ts";
import { createRunFolder } from "../../core/run-folder.ts";
import { findAdapter } from "../../core/run-record.ts";
import { dataOptions } from "../../core/data-options.ts";
import { ConfigError, ModelError } from "../../core/errors.ts";
import { trainingOptions } from "../../core/training-options.ts";
import { temporaryFolder } from "../support/run.ts";

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

test("evaluating on nothing is refused; on files or on a fold it is not", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "rows.jsonl");
  await writeFile(file, '{"text":"a","label":0}\n{"text":"b","label":1}\n');
  const load = (data: object, evalStrategy: string) =>
    loadTrainingData({
      data: dataOptions.parse({ trainFiles: [file], ...data }, "data"),
      training: trainingOptions.parse({ evalStrategy }, "training"),
    });
  expect(() => load({}, "epoch")).toThrow(
    'training.evalStrategy: got "epoch", but neither data.evalFiles nor data.nSplits',
  );
  expect(load({}, "no").evaluation).toBeUndefined();
  expect(load({ evalFiles: [file] }, "epoch").evaluation!.rows).toHaveLength(2);
  expect(load({ nSplits: 2 }, "steps").evaluation!.rows).toHaveLength(1);
});
