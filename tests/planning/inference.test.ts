/** A trained adapter is run as its run was: what the memory plan settled is taken from run.json, what is asked for wins. */
import { describe, expect, spyOn, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Memory } from "../../core/device/memory.ts";
import type { DeviceError } from "../../core/errors.ts";
import { evaluate, type InferenceRequest, merge, predict, train } from "../../index.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { writeSafetensors } from "../../runtime/files/folder.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { openAdapterRun } from "../../runtime/inference/adapter-run.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** What `work` tells; the buffers that it allocates on the GPU for the token table, in bytes, and the most that it held there. */
async function watched<T>(work: (onEvent: (event: RunEvent) => void) => Promise<T>) {
  const alloc = spyOn(Memory.prototype, "alloc");
  const events: RunEvent[] = [];
  try {
    const result = await work((event) => events.push(event));
    expect(alloc.mock.calls.length).toBeGreaterThan(50);
    const memory = alloc.mock.contexts.at(-1) as Memory; // the account's comes before the device's
    const calls = alloc.mock.calls.filter((_, i) => alloc.mock.contexts[i] === memory);
    const table = calls.filter(([, , label]) => label === "model.embed_tokens.weight").map(([bytes]) => bytes);
    return { result, events, table, peak: memory.report().peak };
  } finally {
    alloc.mockRestore();
  }
}

const told = (events: readonly RunEvent[]): string =>
  events.map((event) => (event.type === "info" ? event.message : "")).join("\n");

const edited = async (run: string, settings: object): Promise<void> => {
  const path = join(run, "run.json");
  const record = JSON.parse(await readFile(path, "utf8"));
  Object.assign(record.memory.settings, settings);
  await writeFile(path, JSON.stringify(record));
};

describe.skipIf(tiers.length === 0)("memory of a trained adapter", () => {
  test("where the run's settings do not fit, it runs with others, or is refused before anything is loaded", async () => {
    await using folder = await temporaryFolder();
    const tier = "f32";
    const { outputDir: run } = await train(
      await smallRun(folder.path, { device: { tier }, training: { maxSteps: 1, perDeviceEvalBatchSize: 6 } }),
    );
    // Full batches of rows as long as they may be, so that the account is of what comes.
    const on = (memoryBudget: string | undefined, request: Partial<InferenceRequest> = {}) =>
      watched((onEvent) =>
        evaluate({ run, device: { tier, memoryBudget }, data: { maxLength: 24 }, ...request }, { onEvent }),
      );
    const own = await on(undefined);
    const host = await on(undefined, { embeddings: "host" });
    expect(told(own.events)).not.toContain("memory");
    expect(host.peak).toBeLessThan(0.9 * own.peak);

    const roomy = await on(String(Math.ceil(1.02 * own.peak)));
    expect(told(roomy.events)).not.toContain("memory");
    expect(roomy.peak).toBe(own.peak);
    const tight = await on(String(Math.floor(0.98 * own.peak)));
    expect(told(tight.events)).toMatch(
      /^memory: weights packed, token table on the host \(what the run had does not fit\); at most /m,
    );
    expect(Math.abs(tight.peak / host.peak - 1)).toBeLessThan(0.02);
    expect(tight.result).toEqual(own.result);
    const cut = await on(String(Math.floor(0.98 * host.peak)));
    expect(told(cut.events)).toContain("token table on the host, batches of 72 tokens (what the run had does not fit)");
    expect(cut.peak).toBeLessThan(0.98 * host.peak);
    expect(cut.result.metrics["eval_loss"]).toBeCloseTo(own.result.metrics["eval_loss"]!, 5);

    const events: RunEvent[] = [];
    const small = { run, device: { tier, memoryBudget: "1MiB" } } as const;
    const refused = await evaluate(small, { onEvent: (event) => events.push(event) }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "MEMORY_SHORT" });
    expect((refused as Error).message).toMatch(
      /short by .*: with weights packed, token table on the host, batches of 64 tokens a run takes/,
    );
    expect((refused as DeviceError).hint).toBe("Lower data.maxLength (--max-length).");
    expect(events.filter(({ type }) => type === "progress")).toEqual([]);
    const fixed = await evaluate({ ...small, embeddings: "device", tokenBudget: 64 }).catch((error: unknown) => error);
    expect((fixed as DeviceError).hint).toBe(
      "Set --model.embeddings host. Lower --per-device-eval-batch-size or --token-budget or data.maxLength (--max-length).",
    );
  }, 240_000);

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

    const own = await watched((onEvent) => evaluate({ run, device }, { onEvent }));
    expect(own.table).toEqual([]);
    expect(told(own.events)).toContain("memory: weights packed, token table on the host (as the run was trained");
    expect((await watched(() => predict({ run, device }))).table).toEqual([]);
    const outputDir = join(folder.path, "merged");
    expect((await watched(() => merge({ run, device, outputDir, rows: 2 }))).table).toEqual([]);

    const asked = await watched(() => evaluate({ run, device, embeddings: "device" }));
    expect(asked.table).toEqual(whole);
    expect(asked.result).toEqual(own.result);
    // The same of a record that says so.
    await edited(run, { embeddings: "device" });
    expect((await watched(() => evaluate({ run, device }))).table).toEqual(whole);
  }, 240_000);

  test("batches are cut as the run's were", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32" } as const;
    const { outputDir: run } = await train(await smallRun(folder.path, { device, training: { maxSteps: 1 } }));
    const batches = async (request: Partial<InferenceRequest> = {}): Promise<number> => {
      const { events, result } = await watched((onEvent) => evaluate({ run, device, ...request }, { onEvent }));
      expect(result.samples).toBe(12);
      return events.filter((event) => event.type === "progress" && event.what === "evaluating").length;
    };
    expect(await batches()).toBe(2); // 12 rows of a fifth of 60, at most 8 in each
    await edited(run, { tokenBudget: 1 });
    expect(await batches()).toBe(12);
    expect(await batches({ tokenBudget: 100_000 })).toBe(2);
  }, 240_000);
});

test("weights kept dequantized are as in the record, the request before it, and the model's own option before both", async () => {
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
  const zeros = (...shape: number[]) =>
    ({ dtype: "F32", shape, data: new Float32Array(shape.reduce((a, b) => a * b)) }) as const;
  const linears = [0, 1, 2, 3].map((i) => `base_model.model.model.layers.${i}.self_attn.q_proj`);
  await writeSafetensors(join(folder.path, "adapter_model.safetensors"), [
    ["base_model.model.score.weight", zeros(3, 128)],
    ...linears.flatMap((name) => [
      [`${name}.lora_A.weight`, zeros(4, 128)] as const,
      [`${name}.lora_B.weight`, zeros(128, 4)] as const,
    ]),
  ]);
  const placement = async (options: object, recorded: object | undefined, asked: object = {}) => {
    await write("run.json", {
      config: {
        model: { name: "gemma2", options: { checkpoint: tinyCheckpoint, ...options } },
        adapter: { name: "lora", options: {} },
        metrics: [],
        data: {},
        training: {},
      },
      data: { numLabels: 3 },
      ...(recorded === undefined ? {} : { memory: { mode: "auto", settings: recorded } }),
    });
    const request = { run: folder.path, ...asked };
    const plugins = { shipped: [gemma2, lora], from: folder.path };
    const { settings } = await openAdapterRun(request, await findAdapter(folder.path), plugins, undefined);
    return { embeddings: settings.embeddings, keepDequantized: settings.keepDequantized };
  };
  const settings = { checkpointing: "none", embeddings: "host", keepDequantized: true };
  expect(await placement({}, undefined)).toEqual({ embeddings: "device", keepDequantized: false });
  expect(await placement({}, settings)).toEqual({ embeddings: "host", keepDequantized: true });
  expect(await placement({}, settings, { keepDequantized: false, embeddings: undefined })).toEqual({
    embeddings: "host",
    keepDequantized: false,
  });
  expect(await placement({ embeddings: "host" }, undefined)).toMatchObject({ embeddings: "host" });
  expect(await placement({ embeddings: "host" }, settings, { embeddings: "device" })).toEqual({
    embeddings: "device",
    keepDequantized: true,
  });
});
