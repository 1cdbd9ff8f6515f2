/** Parameter groups: LoRA+ as peft's create_loraplus_optimizer, and weight decay that spares biases and norms, as transformers. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ParameterSet, readFloats } from "../../core/index.ts";
import { train, trainer } from "../../index.ts";
import { adamW8bit, lora, sgd } from "../../plugins/index.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import type { Session } from "../../runtime/session/session.ts";
import { createOptimizer, groupOf, isWithoutDecay } from "../../runtime/training/optimizer-groups.ts";
import { gpuOf, tiers } from "../support/gpu.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B = A.replace("lora_A", "lora_B");

test("names that do not decay are those of get_decay_parameter_names", () => {
  const none = [
    "base_model.model.model.layers.0.input_layernorm.weight",
    "base_model.model.model.layers.1.self_attn.q_norm.weight",
    "base_model.model.model.norm.weight",
    "base_model.model.score.bias",
  ];
  const some = [A, B, "base_model.model.score.weight", "base_model.model.model.layers.0.normal_proj.lora_A.weight"];
  expect(none.map(isWithoutDecay)).toEqual([true, true, true, true]);
  expect(some.map(isWithoutDecay)).toEqual([false, false, false, false]);
});

test("groups of LoRA+: B and what has one dimension, the head where it has a rate of its own", () => {
  const isHead = (name: string): boolean => name.includes("score");
  const plus = { loraplusLrRatio: 16, headLearningRate: undefined };
  const groups = (options: typeof plus | { loraplusLrRatio: number; headLearningRate: number }) =>
    [
      { name: A, shape: [2, 8] },
      { name: B, shape: [8, 2] },
      { name: A.replace("lora_A", "lora_magnitude_vector"), shape: [8] },
      { name: "base_model.model.model.norm.weight", shape: [8] },
      { name: "base_model.model.score.weight", shape: [3, 8] },
    ].map((member) => groupOf(member, isHead, options));
  expect(groups(plus)).toEqual(["", "loraplus/", "loraplus/", "loraplus/no-decay/", ""]);
  expect(groups({ ...plus, headLearningRate: 1 })).toEqual([
    "",
    "loraplus/",
    "loraplus/",
    "loraplus/no-decay/",
    "head/",
  ]);
});

describe.skipIf(tiers.length === 0)("on the GPU", () => {
  const names = ["a.lora_A.weight", "a.lora_B.weight", "a.norm.weight", "score.weight"];

  /** Parameters of ones after one step of SGD with zero gradients: what decays shrinks by rate times decay. */
  async function decayed(training: object, weightDecay = 0.5): Promise<Record<string, number>> {
    const gpu = await gpuOf("f32");
    const shapes = [[2, 8], [8, 2], [8], [3, 8]];
    const specs = names.map((name, i) => {
      const size = shapes[i]!.reduce((product, n) => product * n, 1);
      return { name, shape: shapes[i]!, initial: () => new Float32Array(size).fill(1) };
    });
    const parameters = new ParameterSet(gpu, specs);
    const session = { gpu, parameters, outline: { head: [{ name: "score.weight", shape: [3, 8] }] } };
    const config = { optimizer: sgd({ momentum: 0, weightDecay }), training: trainingOptions.parse(training) };
    const optimizer = createOptimizer(config, session as unknown as Session, { factor: () => 0.5 });
    const gradState = gpu.upload(Float32Array.of(1, 0, 0, 0), [4], "f32", "gradient state");
    optimizer.step({ learningRate: 0.25, update: 1, gradState });
    const values = await parameters.readValues();
    optimizer.destroy();
    parameters.free();
    gpu.free(gradState);
    return Object.fromEntries([...values].map(([name, value]) => [name, value[0]!]));
  }

  test("norms do not decay, and each group has its rate", async () => {
    expect(await decayed({ learningRate: 0.5 })).toEqual({
      "a.lora_A.weight": 1 - 0.25 * 0.5,
      "a.lora_B.weight": 1 - 0.25 * 0.5,
      "a.norm.weight": 1,
      "score.weight": 1 - 0.25 * 0.5,
    });
    expect(await decayed({ learningRate: 0.5, loraplusLrRatio: 4, headLearningRate: 0.125 })).toEqual({
      "a.lora_A.weight": 1 - 0.25 * 0.5,
      "a.lora_B.weight": 1 - 4 * 0.5 * 0.5 * 0.5,
      "a.norm.weight": 1,
      "score.weight": 1 - 0.125 * 0.5 * 0.5,
    });
    const own = await decayed({ learningRate: 0.5, loraplusLrRatio: 4, loraplusWeightDecay: 0 });
    expect(Object.values(own)).toEqual([1, 1, 1, 1]);
  });

  test("an optimizer without weight decay is told of", async () => {
    const gpu = await gpuOf("f32");
    const training = trainingOptions.parse({ loraplusLrRatio: 4, loraplusWeightDecay: 0.1 });
    const plain = { ...sgd(), options: { momentum: 0 } };
    const session = { gpu, parameters: new ParameterSet(gpu, []), outline: { head: [] } } as unknown as Session;
    expect(() => createOptimizer({ optimizer: plain, training }, session, { factor: () => 1 })).toThrow(
      "training.loraplusWeightDecay: got 0.1 with optimizer sgd, which has no option weightDecay",
    );
  });

  test("a run with LoRA+ moves B sixteen times as far and all else as before, and resumes to the byte", async () => {
    await using folder = await temporaryFolder();
    const config = (name: string, parts: object, training: object) =>
      smallRun(folder.path, {
        adapter: lora({ rank: 2, targetModules: ["q_proj"], layersToTransform: [3] }),
        data: { maxLength: 24 },
        device: { tier: "f32" },
        ...parts,
        training: { outputDir: join(folder.path, name), gradientAccumulationSteps: 1, maxSteps: 1, ...training },
      });
    const adapter = (name: string): string => join(folder.path, name, "adapter_model.safetensors");
    const tensors = async (name: string): Promise<Map<string, readonly number[]>> => {
      await using file = await openSafetensors(adapter(name));
      const read = [...file.tensors].map(
        async ([key, { shape }]) => [key, [...(await readFloats(file, key, shape))]] as const,
      );
      return new Map(await Promise.all(read));
    };
    const optimizer = sgd({ momentum: 0 });
    await train(await config("plain", { optimizer }, {}));
    await train(await config("plus", { optimizer }, { loraplusLrRatio: 16 }));
    const [plain, plus] = [await tensors("plain"), await tensors("plus")];
    expect([...plain.keys()].some((key) => key.includes("lora_B"))).toBe(true);
    for (const [key, values] of plain) {
      // B starts at zero, so all of it is the step's; 16 is a power of two, so it is exact.
      expect(plus.get(key), key).toEqual(key.includes("lora_B") ? values.map((value) => 16 * value) : values);
      expect(values.some((value) => value !== 0)).toBe(true);
    }

    const longer = { loraplusLrRatio: 16, headLearningRate: 1e-4, maxSteps: 3 };
    const decaying = { optimizer: adamW8bit({ weightDecay: 0.01 }) };
    await train(await config("straight", decaying, longer));
    const stop = new AbortController();
    for await (const { step } of trainer(await config("halted", decaying, longer), { signal: stop.signal }))
      if (step === 2) stop.abort();
    await train(await config("halted", decaying, { ...longer, resumeFromCheckpoint: true }));
    expect(readFileSync(adapter("halted")).equals(readFileSync(adapter("straight")))).toBe(true);
  }, 120_000);
});
