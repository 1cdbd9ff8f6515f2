/** `training.memory` in a run: what is chosen is recorded, stays on resuming, and is checked before anything is loaded. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { train, trainer } from "../../index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const recordOf = async (folder: string): Promise<Record<string, unknown>> =>
  (JSON.parse(await readFile(join(folder, "run.json"), "utf8")) as { memory: Record<string, unknown> }).memory;

describe.skipIf(tiers.length === 0)("memory in a run", () => {
  test("lean is told, recorded and kept on resuming; a mode named then wins", async () => {
    await using folder = await temporaryFolder();
    const device = { tier: "f32", memoryBudget: "1GiB" } as const;
    const told: string[] = [];
    const onEvent = (event: RunEvent): void => void (event.type === "info" && told.push(event.message));
    const stop = new AbortController();
    const first = await smallRun(folder.path, { device, training: { memory: "lean" } });
    for await (const { step } of trainer(first, { onEvent, signal: stop.signal })) if (step === 2) stop.abort();
    expect(told.find((message) => message.startsWith("memory lean"))).toContain("every block checkpointed");
    const run = first.training.outputDir;
    const lean = await recordOf(run);
    expect(lean).toMatchObject({
      mode: "lean",
      settings: { checkpointing: "block", embeddings: "host", keepDequantized: false },
      budgetBytes: 2 ** 30,
    });
    expect(lean["peakBytes"]).toBeGreaterThan(2 ** 20);

    const resume = { resumeFromCheckpoint: true };
    await train(await smallRun(folder.path, { device, training: { ...resume, maxSteps: 6 } }));
    expect((await recordOf(run))["settings"]).toEqual(lean["settings"]);
    await train(await smallRun(folder.path, { device, training: { ...resume, maxSteps: 6, memory: "fast" } }));
    expect(await recordOf(run)).toMatchObject({
      mode: "fast",
      settings: { checkpointing: "none", embeddings: "device" },
    });
  }, 120_000);

  test("lean and fast give the same adapter, to the byte", async () => {
    await using folder = await temporaryFolder();
    const bytes = [];
    for (const memory of ["lean", "fast"] as const) {
      const training = { outputDir: join(folder.path, memory), maxSteps: 2, memory };
      await train(await smallRun(folder.path, { device: { tier: "f32" }, training }));
      bytes.push(await readFile(join(folder.path, memory, "adapter_model.safetensors")));
    }
    expect(bytes[0]!.equals(bytes[1]!)).toBe(true);
  }, 120_000);

  test("too little is found before the weights are loaded", async () => {
    await using folder = await temporaryFolder();
    const events: RunEvent[] = [];
    const config = await smallRun(folder.path, { device: { tier: "f32", memoryBudget: "1MiB" } });
    const error = await train(config, { onEvent: (event) => events.push(event) }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MEMORY_SHORT" });
    expect((error as Error).message).toContain("of 1.0 MiB (1.0 MiB given as memoryBudget)");
    expect(events.filter((event) => event.type === "progress" && event.what.startsWith("loading"))).toEqual([]);
  }, 60_000);
});
