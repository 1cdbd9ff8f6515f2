/** What was saved is what is read: a changed bit, a missing file or a missing manifest is told before anything is used. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { resolveResume } from "../../runtime/run/resume.ts";
import { failure } from "../support/failure.ts";
import { metaConfig, metaTrain } from "../support/meta-run.ts";
import { random } from "../support/random.ts";

let root = "";
let run = "";
let checkpoint = "";

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "qlora-manifest-"));
  run = join(root, "run");
  checkpoint = join(run, "checkpoint-2");
  await metaTrain(await metaConfig(root));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const resume = (from: string | true = checkpoint): Promise<string> =>
  failure(resolveResume(trainingOptions.parse({ outputDir: run, resumeFromCheckpoint: from })));

/** Calls `look` while a bit of a file is another. */
async function flipped(path: string, bit: number, look: () => Promise<string>): Promise<string> {
  const bytes = await readFile(path);
  const changed = Uint8Array.from(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  await writeFile(path, changed);
  try {
    return await look();
  } finally {
    await writeFile(path, bytes);
  }
}

describe("a checkpoint", () => {
  test("has a manifest of every file, which sha256sum agrees with", async () => {
    const manifest = JSON.parse(await readFile(join(checkpoint, "manifest.json"), "utf8")) as {
      step: number;
      lineage: object[];
      files: Record<string, { bytes: number; sha256: string }>;
    };
    const names = (await readdir(checkpoint)).filter((name) => name !== "manifest.json").sort();
    expect(Object.keys(manifest.files)).toEqual(names);
    expect(manifest).toMatchObject({ version: 1, step: 2, lineage: [{ from: 0 }] });
    const sums = Bun.spawnSync(["sha256sum", ...names], { cwd: checkpoint }).stdout.toString();
    expect(names.map((name) => `${manifest.files[name]!.sha256}  ${name}\n`).join("")).toBe(sums);
    expect(await resume()).toBe("no error");
  });

  test("tells 300 of 300 flipped bits of adapter and optimizer state", async () => {
    const next = random(22);
    let told = 0;
    for (let i = 0; i < 300; i++) {
      const name = i % 2 === 0 ? "adapter_model.safetensors" : "optimizer.safetensors";
      const path = join(checkpoint, name);
      const bit = Math.floor(next() * 8 * Bun.file(path).size);
      if ((await flipped(path, bit, resume)).includes(`${path}: its sha256 is not that of manifest.json`)) told++;
      if (i % 2 === 1) continue;
      const predicted = await flipped(path, bit, () => failure(findAdapter(checkpoint)));
      expect(predicted).toStartWith(`ModelError: ${path}: its sha256 is not that of manifest.json`);
    }
    expect(told).toBe(300);
  });

  test("tells a flipped bit of any other file, and of the manifest itself", async () => {
    const next = random(23);
    for (const name of ["training_state.json", "trainer_state.json", "adapter_config.json"]) {
      const path = join(checkpoint, name);
      const bit = Math.floor(next() * 8 * Bun.file(path).size);
      expect(await flipped(path, bit, resume)).toContain(`${path}: its sha256`);
    }
    const path = join(checkpoint, "manifest.json");
    for (let byte = 0; byte < Bun.file(path).size; byte += 3) {
      const said = await flipped(path, byte * 8 + Math.floor(next() * 8), resume);
      expect(said).toStartWith(`ModelError: ${path}: `);
    }
  });

  test("tells a file that is missing or cut, and a checkpoint without a manifest", async () => {
    const path = join(checkpoint, "optimizer.safetensors");
    await rename(path, `${path}.away`);
    expect(await resume()).toStartWith(`ModelError: ${path}: is missing, manifest.json names it`);
    await writeFile(path, "short");
    expect(await resume()).toContain(`${path}: has 5 bytes, ${Bun.file(`${path}.away`).size} were saved`);
    await rename(`${path}.away`, path);
    const manifest = join(checkpoint, "manifest.json");
    await rename(manifest, `${manifest}.away`);
    for (const from of [checkpoint, true] as const)
      expect(await resume(from)).toBe(`ModelError: ${checkpoint}: has no manifest.json, which is written last`);
    await rename(`${manifest}.away`, manifest);
  });

  test("under the name of another step is told", async () => {
    const other = join(run, "checkpoint-7");
    await cp(checkpoint, other, { recursive: true });
    expect(await resume(other)).toBe(`ModelError: ${other}: manifest.json is that of step 2`);
    await rm(other, { recursive: true });
  });

  test("of qlora 0.1.0, without a manifest, serves still; it is said once", async () => {
    const old = join(root, "old");
    await cp(run, old, { recursive: true });
    const names = (await readdir(old)).filter((name) => name.startsWith("checkpoint-"));
    for (const name of ["", ...names]) await rm(join(old, name, "manifest.json"));
    const record = JSON.parse(await readFile(join(old, "run.json"), "utf8")) as Record<string, unknown>;
    delete record["lineage"];
    await writeFile(join(old, "run.json"), JSON.stringify(record));
    const messages: string[] = [];
    const training = { outputDir: old, resumeFromCheckpoint: true as const, maxSteps: 3 };
    const config = await metaConfig(root, { training });
    const result = await metaTrain(config, { onEvent: (e) => void (e.type === "info" && messages.push(e.message)) });
    expect(result.steps).toBe(3);
    const line = `${old}/checkpoint-2 has no manifest.json, as those of qlora 0.1.0: its files are taken unchecked`;
    expect(messages.filter((message) => message.includes("manifest.json"))).toEqual([line]);
    expect((await findAdapter(join(old, "checkpoint-2"))).notes).toEqual([line]);
    // What it saved itself is checked again.
    expect((await findAdapter(old)).notes).toEqual([]);
    expect(await failure(resolveResume({ ...config.training, resumeFromCheckpoint: true }))).toBe("no error");
  });
});

test("the adapter of a run that ended is checked, and is not taken where its manifest is missing", async () => {
  const path = join(run, "adapter_model.safetensors");
  expect(await flipped(path, 801, () => failure(findAdapter(run)))).toStartWith(`ModelError: ${path}: its sha256`);
  const manifest = join(run, "manifest.json");
  await rename(manifest, `${manifest}.away`);
  expect((await findAdapter(run)).directory).toBe(checkpoint);
  await rename(`${manifest}.away`, manifest);
  expect((await findAdapter(run)).directory).toBe(run);
});
