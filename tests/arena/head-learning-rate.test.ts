import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readFloats } from "../../core/formats/checkpoint.ts";
import { train, trainer } from "../../index.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const HEAD = "base_model.model.score.weight";
const device = { tier: "f32" } as const;

describe.skipIf(tiers.length === 0)("headLearningRate", () => {
  test("equal to learningRate changes no byte; 0 keeps the head where it starts; a run with it resumes", async () => {
    await using folder = await temporaryFolder();
    const config = (name: string, training: object) =>
      smallRun(folder.path, { device, training: { outputDir: join(folder.path, name), maxSteps: 4, ...training } });
    const bytes = (name: string): Promise<Buffer> => readFile(join(folder.path, name, "adapter_model.safetensors"));
    const head = async (name: string): Promise<number[]> => {
      await using file = await openSafetensors(join(folder.path, name, "adapter_model.safetensors"));
      return [...(await readFloats(file, HEAD, file.tensors.get(HEAD)!.shape))];
    };
    await train(await config("plain", {}));
    await train(await config("same", { headLearningRate: 1e-3 }));
    expect((await bytes("same")).equals(await bytes("plain"))).toBe(true);

    await train(await config("one", { headLearningRate: 0, maxSteps: 1 }));
    await train(await config("four", { headLearningRate: 0 }));
    expect(await head("four")).toEqual(await head("one"));
    expect(await head("four")).not.toEqual(await head("plain"));
    expect((await bytes("four")).equals(await bytes("one"))).toBe(false);

    await train(await config("straight", { headLearningRate: 5e-3 }));
    const stop = new AbortController();
    const steps = trainer(await config("halted", { headLearningRate: 5e-3 }), { signal: stop.signal });
    for await (const step of steps) if (step.step === 2) stop.abort();
    await train(await config("halted", { headLearningRate: 5e-3, resumeFromCheckpoint: true }));
    expect((await bytes("halted")).equals(await bytes("straight"))).toBe(true);
  }, 120_000);
});
