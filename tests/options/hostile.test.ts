import { expect, test } from "bun:test";
import { option, defineOptions } from "../../core/options/options.ts";
import { readOptionText } from "../../core/options/parse.ts";
import { type ConfigInput, defineConfig, train } from "../../index.ts";
import { adamW8bit, gemma2, lora } from "../../plugins/index.ts";
import { qlora } from "../support/command-line.ts";
import { failure } from "../support/failure.ts";
import { tinyCheckpoint } from "../support/reference.ts";

const parts = { model: gemma2({ checkpoint: "x" }), adapter: lora(), optimizer: adamW8bit() };
const loose = (value: unknown): ConfigInput => value as ConfigInput;
const told = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
  return "no error";
};

test.each([
  [null, "got null"],
  [undefined, "got nothing"],
  [[], "got []"],
  ["x", 'got "x"'],
  [() => 1, "got a function"],
])("defineConfig(%p) is one clear error", (value, got) => {
  expect(told(() => defineConfig(loose(value)))).toBe(`ConfigError: config: ${got}, expected an object of sections`);
});

test("null is no value of a section, of metrics or of a plugin's options", () => {
  expect(told(() => defineConfig(loose({ ...parts, metrics: null, data: null, training: null, device: null })))).toBe(
    "ConfigError: 4 problems:\n  - metrics: got null, expected a list of metrics\n" +
      "  - data: got null, expected an object of options\n  - training: got null, expected an object of options\n" +
      "  - device: got null, expected an object of options",
  );
  expect(told(() => defineConfig(loose({ ...parts, loss: null })))).toContain("loss: got null, expected a loss");
  expect(told(() => defineConfig(loose({ ...parts, metrics: new Array(2) })))).toContain("metrics[1]: got nothing");
  expect(told(() => defineConfig(loose({ ...parts, metrics: new Array(1e9) })))).toContain(
    "metrics: got 1000000000, expected at most 1000",
  );
  expect(told(() => lora(null as never))).toBe("ConfigError: adapter: got null, expected an object of options");
});

test("names that every object has are unknown keys, wherever they stand", () => {
  for (const key of ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty"]) {
    const own = JSON.parse(`{${JSON.stringify(key)}: {"polluted": true}}`) as object;
    expect(told(() => defineConfig(loose({ ...parts, ...own })))).toContain(`${key}: unknown section`);
    for (const section of ["data", "training", "device"])
      expect(told(() => defineConfig(loose({ ...parts, [section]: own })))).toContain(
        `${section}.${key}: unknown option`,
      );
    expect(told(() => lora(own as never))).toContain(`adapter.${key}: unknown option`);
  }
  expect({}).not.toHaveProperty("polluted");
  const numbers = option("Record<string, number>", { help: "numbers", optional: true });
  for (const text of ["__proto__", "constructor", "toString"])
    expect(readOptionText(numbers, text, "--x").ok, text).toBe(false);
});

test("flags and words that every object has are unknown ones", async () => {
  for (const name of [
    "__proto__",
    "constructor",
    "toString",
    "training.__proto__",
    "adapter.constructor",
    "data.hasOwnProperty",
  ]) {
    const { code, stderr } = await qlora(
      "train",
      `--${name}`,
      "x",
      "--model",
      tinyCheckpoint,
      "--train-files",
      "a.csv",
    );
    expect(stderr).toContain(`--${name}: unknown flag`);
    expect(code).toBe(2);
  }
  for (const argv of [
    ["__proto__"],
    ["constructor"],
    ["runs", import.meta.dir, "--sort", "constructor"],
    ["predict", "x", "--tta", "__proto__"],
    ["train", "--adapter", "__proto__"],
  ]) {
    const { code, stderr } = await qlora(...argv);
    expect(code, argv.join(" ")).toBe(2);
    expect(stderr).not.toMatch(/^\s+at /m);
  }
});

test("values nested a hundred thousand deep, that hold themselves, or of a hundred thousand keys take no time", async () => {
  let deep: unknown = 0;
  for (let i = 0; i < 100_000; i++) deep = [deep];
  const round: unknown[] = [];
  round.push(round);
  const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`learningRat${i}`, i]));
  const any = defineOptions({ any: option("unknown[]", { help: "anything", optional: true }) });
  const start = process.cpuUsage();
  expect(any.check({ any: deep }).ok).toBe(true);
  expect(any.check({ any: round }).ok).toBe(true);
  expect(any.check({ any: [[[Infinity]]] }).ok).toBe(false);
  for (const value of [deep, round, many, { a: deep }]) {
    const message = told(() => defineConfig(loose({ ...parts, training: value })));
    expect(message).toStartWith("ConfigError: ");
    expect(message.length).toBeLessThan(3200);
  }
  expect(told(() => defineConfig(loose({ ...parts, training: many })))).toContain("99980 more are unknown");
  const { user, system } = process.cpuUsage(start);
  expect((user + system) / 1e6).toBeLessThan(3);
});

test("what only looks like a config is none", async () => {
  for (const value of [
    null,
    { kind: "config" },
    { ...defineConfig(parts), model: { kind: "model" } },
    { ...defineConfig(parts), metrics: null },
  ])
    expect(await failure(train(value as never))).toContain("expected what defineConfig returns");
});
