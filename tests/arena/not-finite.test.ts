import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import { train } from "../../index.ts";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { ADAPTER_FILES, readManifest, writeManifest } from "../../runtime/folder/manifest.ts";
import { ensemble } from "../../sdk/ensemble.ts";
import { withOutOfFold } from "../../sdk/out-of-fold.ts";
import { qlora } from "../support/command-line.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder, testProvider } from "../support/run.ts";

const OLD = "id,winner_model_a,winner_model_b,winner_tie\n999,0.3,0.3,0.4\n";

/** A head whose numbers are fine, and whose products are not. */
async function overflowingHead(path: string): Promise<void> {
  const tensors: [string, TensorToWrite][] = [];
  {
    await using file = await openSafetensors(path);
    for (const [name, { dtype, shape }] of file.tensors) {
      const data = await file.read(name);
      if (name.includes("score")) new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4).fill(3e38);
      tensors.push([name, { dtype, shape, data }]);
    }
  }
  await writeSafetensors(path, tensors, { format: "pt" });
}

describe.skipIf(tiers.length === 0)("predictions that are no numbers", () => {
  test("make no submission and no out-of-fold file: exit 1, and the older files stand", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32", gpu: testProvider } as const;
    const config = await smallRun(folder.path, { device, training: { maxSteps: 1 } });
    const { outputDir: run } = await train(config);
    const adapter = join(folder.path, "adapter");
    for (const name of ["adapter_config.json", "adapter_model.safetensors"])
      await Bun.write(join(adapter, name), Bun.file(join(run, name)));
    await Bun.write(join(adapter, "run.json"), Bun.file(join(run, "run.json")));
    await overflowingHead(join(adapter, "adapter_model.safetensors"));
    await writeManifest(adapter, (await readManifest(run))!, ADAPTER_FILES);
    const [submission, oof] = ["submission.csv", "oof.csv"].map((name) => join(folder.path, name)) as [string, string];
    for (const flags of [
      ["--submission", submission],
      ["--oof", oof],
      ["--submission", submission, "--oof", oof],
      ["--submission", submission, "--output", join(folder.path, "new.csv")],
    ]) {
      for (const file of [submission, oof]) await writeFile(file, OLD);
      const { code, stderr, stdout } = await qlora(
        "predict",
        adapter,
        ...flags,
        "--tier",
        "f32",
        "--gpu",
        testProvider,
      );
      expect(stderr).toMatch(
        /: 12 of 12 rows have values that are not finite, the first is id "\d+" \(NaN, NaN, NaN\); nothing was written/,
      );
      expect([code, stdout]).toEqual([1, ""]);
      for (const file of [submission, oof]) expect(await readFile(file, "utf8")).toBe(OLD);
      expect(existsSync(join(folder.path, "new.csv"))).toBe(false);
    }
  }, 120_000);
});

test("held-out rows with an infinite value are refused before the file is touched", async () => {
  const rows = [
    { id: "a", values: [0.5, 0.5] },
    { id: "b", values: [Infinity, 0] },
  ];
  expect(() => withOutOfFold("/none/oof.csv", { columns: ["label_0", "label_1"], rows })).toThrow(
    '/none/oof.csv: 1 of 2 rows have values that are not finite, the first is id "b" (Infinity, 0); nothing was written',
  );
});

test("an ensemble of what is no number is refused, and no weight or temperature makes one", async () => {
  await using folder = await temporaryFolder();
  const [good, bad, output] = ["good.csv", "bad.csv", "mean.csv"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(good, "id,label_0,label_1\n1,0.25,0.75\n2,1,0\n");
  for (const value of ["NaN", "nan", "inf", "-inf", "Infinity", "1e999", ""]) {
    await writeFile(bad, `id,label_0,label_1\n1,0.25,0.75\n2,${value},0\n`);
    await writeFile(output, OLD);
    const { code, stderr } = await qlora("ensemble", good, bad, "--output", output);
    expect(stderr).toContain(`${bad}:3: column label_0: expected a probability, got ${JSON.stringify(value)}`);
    expect([code, await readFile(output, "utf8")]).toEqual([1, OLD]);
  }
  expect((await ensemble({ files: [good, good], weights: [1e308, 1e308] })).rows[0]!.values).toEqual([0.25, 0.75]);
  expect((await ensemble({ files: [good], temperature: Number.MIN_VALUE })).rows[0]!.values).toEqual([0, 1]);
  expect((await ensemble({ files: [good], temperature: Number.MAX_VALUE })).rows[0]!.values).toEqual([0.5, 0.5]);
});
