/** The table of transformers' and peft's arguments: whole, and true of the options that there are. */
import { expect, test } from "bun:test";
import { theirArguments, theirName } from "../../core/util/their-names.ts";
import { adamW8bit, lora } from "../../plugins/index.ts";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { deviceOptions } from "../../runtime/config/device-options.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { defineConfig } from "../../index.ts";
import * as plugins from "../../plugins/index.ts";
import theirs from "./fixtures/their-arguments.json" with { type: "json" };

const shapes: Readonly<Record<string, object>> = {
  training: trainingOptions.shape,
  data: dataOptions.shape,
  device: deviceOptions.shape,
  adapter: lora.options.shape,
  optimizer: adamW8bit.options.shape,
  reportTo: {},
};

test("it has every argument of both classes, as the libraries' own source declares them, and no other", () => {
  // The fixture was read from the fields of the two dataclasses.
  expect(theirs.TrainingArguments.names).toHaveLength(112);
  expect(theirs.LoraConfig.names).toHaveLength(35);
  for (const { className, names, version } of theirArguments) {
    const source = theirs[className as keyof typeof theirs];
    expect(names.map(({ name }) => name)).toEqual(source.names);
    expect(source.version).toStartWith(version);
  }
});

test("what stands for a name here is an option that there is; what has none says why", () => {
  for (const { names } of theirArguments) {
    for (const { name, ours, note } of names) {
      if (ours === undefined) expect(note?.length, name).toBeGreaterThan(5);
      else {
        const [section, option] = ours.split(".");
        expect(Object.keys(shapes), name).toContain(section!);
        if (option !== undefined) expect(Object.keys(shapes[section!]!), name).toContain(option);
      }
    }
  }
});

test("an option of ours with a name of theirs is in the table as the same", () => {
  const snake = (key: string): string => key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  for (const [className, sections] of [
    ["TrainingArguments", ["training", "optimizer"]],
    ["LoraConfig", ["adapter"]],
  ] as const) {
    const { names } = theirArguments.find((list) => list.className === className)!;
    for (const section of sections) {
      for (const key of Object.keys(shapes[section]!)) {
        const found = names.find(({ name }) => name === snake(key));
        if (found !== undefined) expect(found.ours, found.name).toBe(`${section}.${key}`);
      }
    }
  }
});

test("configs and plugins answer names of theirs", () => {
  const problems = (run: () => unknown): string => {
    try {
      run();
    } catch (error) {
      return String(error);
    }
    return "nothing was thrown";
  };
  const { gemma2, adamW } = plugins;
  const config = (training: object) =>
    problems(() =>
      defineConfig({
        model: gemma2({ checkpoint: "a" }),
        adapter: lora(),
        optimizer: adamW(),
        training,
      }),
    );
  expect(problems(() => lora({ lora_dropout: 0.1 } as never))).toContain(
    'adapter.lora_dropout: unknown option; did you mean "dropout"?',
  );
  expect(problems(() => lora({ r: 8, bias: "all" } as never))).toMatch(
    /adapter\.r: unknown option; did you mean "rank"\?[\s\S]*adapter\.bias: unknown option; peft has it, qlora has not: biases stay frozen/,
  );
  expect(config({ per_device_train_batch_size: 4 })).toContain(
    'training.per_device_train_batch_size: unknown option; did you mean "perDeviceTrainBatchSize"?',
  );
  expect(config({ adam_beta1: 0.9 })).toContain(
    "training.adam_beta1: unknown option; transformers' adam_beta1 is optimizer.adamBeta1 here",
  );
  expect(config({ fp16: true })).toContain(
    "training.fp16: unknown option; transformers has it, qlora has not: device.tier says which numbers the kernels count in",
  );
});

test("any spelling is found", () => {
  for (const written of ["lora_alpha", "loraAlpha", "lora-alpha"])
    expect(theirName(written)?.ours).toBe("adapter.alpha");
  expect(theirName("alpha")).toBeUndefined();
});
