/** A trained adapter is run as its run was: what the memory plan settled is taken from run.json, what is asked for wins. */
import { describe, expect, spyOn, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openAdapterRun } from "../../core/adapter-run.ts";
import type { RunEvent } from "../../core/events.ts";
import { Memory } from "../../core/memory.ts";
import { findAdapter } from "../../core/run-record.ts";
import { evaluate, type InferenceRequest, merge, predict, train } from "../../index.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** What `work` allocates on the GPU for the token table, each buffer's bytes; and the events that it tells. */
async function tables<T>(work: (onEvent: (event: RunEvent) => void) => Promise<T>) {
  const alloc = spyOn(Memory.prototype, "alloc");
  const events: RunEvent[] = [];
  try {
    const result = await work((event) => events.push(event));
    const calls = alloc.mock.calls.filter(([, , label]) => label === "model.embed_tokens.weight");
    expect(alloc.mock.calls.length).toBeGreaterThan(50);
    return { result, events, bytes: calls.map(([bytes]) => bytes) };
  } finally {
    alloc.mockRestore();
  }
}

const edited = async (run: string, settings: object): Promise<void> => {
  const path = join(run, "run.json");
  const record = JSON.parse(await readFile(path, "utf8"));
  Object.assign(record.memory.settings, settings);
  await writeFile(path, JSON.stringify(record));
};

describe.skipIf(tiers.length === 0)("memory of a trained adapter", () => {
  test("eval, predict and merge keep the token table on the host where the run did", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const { outputDir: run } = await train(
      await smallRun(folder.path, { device, training: { memory: "lean", maxSteps: 1 } }),
    );
    const { vocab_size: rows, hidden_size: width } = JSON.parse(
      await readFile(join(tinyCheckpoint, "config.json"), "utf8"),
    );
    const whole = [rows * width * 2]; // bf16, in one buffer

    const own = await tables((onEvent) => evaluate({ run, device }, { onEvent }));
    expect(own.bytes).toEqual([]);
    expect(own.events.map((event) => (event.type === "info" ? event.message : "")).join("\n")).toContain(
      "memory: weights packed, token table on the host (as the run was trained",
    );
    expect((await tables(() => predict({ run, device }))).bytes).toEqual([]);
    const outputDir = join(folder.path, "merged");
    expect((await tables(() => merge({ run, device, outputDir, rows: 2 }))).bytes).toEqual([]);

    const asked = await tables(() => evaluate({ run, device, embeddings: "device" }));
    expect(asked.bytes).toEqual(whole);
    expect(asked.result).toEqual(own.result);
    // The same of a record that says so.
    await edited(run, { embeddings: "device" });
    expect((await tables(() => evaluate({ run, device }))).bytes).toEqual(whole);
  }, 240_000);

  test("batches are cut as the run's were", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const { outputDir: run } = await train(await smallRun(folder.path, { device, training: { maxSteps: 1 } }));
    const batches = async (request: Partial<InferenceRequest> = {}): Promise<number> => {
      const { events, result } = await tables((onEvent) => evaluate({ run, device, ...request }, { onEvent }));
      expect(result.samples).toBe(12);
      return events.filter((event) => event.type === "progress" && event.what === "evaluating").length;
    };
    expect(await batches()).toBe(2); // 12 rows of a fifth of 60, at most 8 in each
    await edited(run, { tokenBudget: 1 });
    expect(await batches()).toBe(12);
    expect(await batches({ tokenBudget: 100_000 })).toBe(2);
  }, 240_000);
});

test("weights kept dequantised are as in the record, the request before it, and the model's own option before both", async () => {
  await using folder = await temporaryFolder();
  const write = (name: string, value: object): Promise<void> =>
    writeFile(join(folder.path, name), JSON.stringify(value));
  await write("adapter_config.json", {
    peft_type: "LORA",
    base_model_name_or_path: tinyCheckpoint,
    task_type: "SEQ_CLS",
    r: 4,
    lora_alpha: 8,
    target_modules: ["q_proj"],
  });
  const placement = async (options: object, settings: object | undefined, asked: object = {}) => {
    await write("run.json", {
      config: {
        model: { name: "gemma2", options: { checkpoint: tinyCheckpoint, ...options } },
        adapter: { name: "lora", options: {} },
        metrics: [],
        data: {},
        training: {},
      },
      data: { numLabels: 3 },
      ...(settings === undefined ? {} : { memory: { mode: "auto", settings } }),
    });
    const request = { run: folder.path, ...asked };
    const plugins = { shipped: [gemma2, lora], from: folder.path };
    return (await openAdapterRun(request, await findAdapter(folder.path), plugins, undefined)).placement;
  };
  const settings = { checkpointing: "none", embeddings: "host", keepDequantised: true };
  expect(await placement({}, undefined)).toEqual({ embeddings: "device", keepDequantised: false });
  expect(await placement({}, settings)).toEqual({ embeddings: "host", keepDequantised: true });
  expect(await placement({}, settings, { keepDequantised: false, embeddings: undefined })).toEqual({
    embeddings: "host",
    keepDequantised: false,
  });
  expect(await placement({ embeddings: "host" }, undefined)).toMatchObject({ embeddings: "host" });
  expect(await placement({ embeddings: "host" }, settings, { embeddings: "device" })).toEqual({
    embeddings: "device",
    keepDequantised: true,
  });
});
