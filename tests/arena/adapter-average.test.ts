import { describe, expect, test } from "bun:test";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readFloats } from "../../core/formats/checkpoint.ts";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { averageAdapters } from "../../sdk/average.ts";
import { tempDir } from "../data/files.ts";
import { failure } from "../support/failure.ts";

const CONFIG = {
  peft_type: "LORA",
  base_model_name_or_path: "base",
  task_type: "SEQ_CLS",
  r: 2,
  lora_alpha: 4,
  target_modules: ["q_proj", "v_proj"],
};
const A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
const HEAD = "base_model.model.score.weight";

async function adapter(
  tensors: Readonly<Record<string, readonly number[]>>,
  config: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const folder = join(tempDir(), "adapter");
  await mkdir(folder);
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify({ ...CONFIG, ...config }));
  const list = Object.entries(tensors).map(
    ([name, values]) =>
      [name, { dtype: "F32", shape: [2, values.length / 2], data: Float32Array.from(values) }] as const,
  );
  await writeSafetensors(join(folder, "adapter_model.safetensors"), list, { format: "pt" });
  return folder;
}

const one = (): Promise<string> => adapter({ [A]: [1, 2, 3, 4], [B]: [0, 1], [HEAD]: [1, -1] });
const refused = (adapters: readonly string[]): Promise<string> =>
  failure(averageAdapters({ adapters, outputDir: join(tempDir(), "out") }));

describe("the mean of adapters", () => {
  test("of A, B and the head; the order of target_modules does not matter", async () => {
    const reordered = { target_modules: ["v_proj", "q_proj"], peft_version: "0.11.1" };
    const two = await adapter({ [HEAD]: [3, 5], [A]: [3, 2, 1, 0], [B]: [1, 1] }, reordered);
    const three = await adapter({ [A]: [2, 2, 2, 2], [B]: [2, 4], [HEAD]: [-1, 2] });
    const outputDir = join(tempDir(), "mean");
    const result = await averageAdapters({ adapters: [await one(), two, three], outputDir });
    expect(result.tensors).toBe(3);
    await using file = await openSafetensors(join(outputDir, "adapter_model.safetensors"));
    expect([...(await readFloats(file, A, [2, 2]))]).toEqual([2, 2, 2, 2]);
    expect([...(await readFloats(file, B, [2, 1]))]).toEqual([1, 2]);
    expect([...(await readFloats(file, HEAD, [2, 1]))]).toEqual([1, 2]);
    expect(JSON.parse(await readFile(join(outputDir, "adapter_config.json"), "utf8"))).toMatchObject(CONFIG);
  });

  test("configs or tensors that differ are one clear error", async () => {
    const first = await one();
    const other = { r: 4, base_model_name_or_path: "other" };
    const message = await refused([first, await adapter({ [A]: [1, 2, 3, 4], [B]: [0, 1], [HEAD]: [1, -1] }, other)]);
    expect(message).toContain(`base_model_name_or_path is "other", but "base" in ${first}; r is 4, but 2 in ${first}`);
    expect(await refused([first, await adapter({ [A]: [1, 2, 3, 4], [B]: [0, 1] })])).toContain(
      `there is no tensor "${HEAD}"`,
    );
    expect(await refused([first, await adapter({ [A]: [1, 2], [B]: [0, 1], [HEAD]: [1, -1] })])).toContain(
      `tensor "${A}" is [2,1], but [2,2] in`,
    );
    expect(await refused([first])).toContain("got 1, expected at least two");
  });

  test("a folder that holds something is left alone", async () => {
    const first = await one();
    const act = averageAdapters({ adapters: [first, first], outputDir: first });
    expect(await failure(act)).toContain("expected a new or empty folder");
  });
});
