/** When a fold of a cross-validation is done: when its last file is written, and not before. */
import { expect, test } from "bun:test";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setFailpoint } from "../../runtime/files/disk.ts";
import { hasEnded } from "../../runtime/folder/ended.ts";
import { crossValidate } from "../../sdk/cross-validate.ts";
import { failure } from "../support/failure.ts";
import { onMeta, metaConfig, metaGpus } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";

test("a fold whose end was cut off after its adapter goes on, one that ended is kept", async () => {
  await using folder = await temporaryFolder();
  const config = await metaConfig(folder.path);
  const cv = (onEvent?: (event: object) => void) => onMeta(metaGpus(), () => crossValidate(config, 2, { onEvent }));
  const fold = join(config.training.outputDir, "fold-1");
  // The process ends between the adapter and the files that follow it.
  let adapter = false;
  setFailpoint((_, path) => {
    adapter ||= path === join(fold, "README.md");
    return adapter ? new Error("the process is dead") : undefined;
  });
  expect(await failure(cv())).toBe("Error: the process is dead");
  setFailpoint(undefined);
  expect(await readdir(fold)).toContain("adapter_model.safetensors");
  expect(await hasEnded(fold)).toBe(false);

  const said: string[] = [];
  const whole = await cv((event) => void ("message" in event && said.push(String(event.message))));
  expect(said.filter((message) => message.startsWith("fold") || message.includes("done already"))).toEqual([
    `fold 1 of 2, in ${config.training.outputDir}/fold-0`,
    "it is done already",
    `fold 2 of 2, in ${fold}`,
  ]);
  expect(whole.folds.map(({ rows }) => rows)).toEqual([3, 3]);
  expect(await hasEnded(fold)).toBe(true);
  expect((await readdir(fold)).toSorted()).toContain("report.html");

  // Its adapter was changed since: that is no fold which is done.
  const weights = join(fold, "adapter_model.safetensors");
  const bytes = await readFile(weights);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(weights, bytes);
  expect(await failure(cv())).toStartWith(`ModelError: ${weights}: its sha256 is not that of manifest.json`);
  await rm(fold, { recursive: true });
  expect((await cv()).interrupted).toBe(false);
});
