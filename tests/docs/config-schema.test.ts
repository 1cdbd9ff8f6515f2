/** docs/config.schema.json: as the options say, and an editor's validator takes what the command line prints and refuses slips. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "../../index.ts";
import { adamW8bit, f1, gemma2, logLoss, lora } from "../../plugins/index.ts";
import { configToJson } from "../../runtime/config/config.ts";
import { CONFIG_SCHEMA, configSchema } from "../../scripts/api-docs/config-schema.ts";

const text = readFileSync(join(import.meta.dir, "../..", CONFIG_SCHEMA), "utf8");
const validate = new Ajv2020({ allErrors: true }).compile(JSON.parse(text) as object);

type Printed = Record<string, Record<string, Record<string, unknown>>>;
const printed = (): Printed => {
  const config = defineConfig({
    model: gemma2({ checkpoint: "c" }),
    adapter: lora({ rank: 16, rankPattern: { q_proj: 4 } }),
    optimizer: adamW8bit(),
    metrics: [logLoss(), f1()],
    data: { trainFiles: ["a.csv"], nSplits: 5, maxLength: 64 },
    training: { maxSteps: 3, evalStrategy: "epoch" },
  });
  return JSON.parse(JSON.stringify(configToJson(config))) as Printed;
};

test("it is what the options say; `bun run docs` makes it so", () => {
  expect(text).toBe(configSchema());
});

test("a config as it is printed is taken", () => {
  expect(validate(printed()), JSON.stringify(validate.errors?.[0])).toBe(true);
  const other = printed();
  other["optimizer"] = { name: "adan", from: "qlora-plugin-adan", options: { anything: 1 } } as never;
  expect(validate(other)).toBe(true);
});

test.each([
  ["a rank of 0", (config: Printed) => void (config["adapter"]!["options"]!["rank"] = 0), "/adapter/options/rank"],
  [
    "a word in place of a number",
    (config: Printed) => void (config["training"]!["maxSteps"] = "3" as never),
    "/training/maxSteps",
  ],
  ["an unknown option", (config: Printed) => void (config["data"]!["maxLenght"] = 3 as never), "/data"],
  [
    "a plugin that nothing names",
    (config: Printed) => void (config["model"]!["name"] = "gpt2" as never),
    "/model/name",
  ],
  ["no model", (config: Printed) => void delete config["model"], ""],
])("%s is refused", (_, spoil, place) => {
  const config = printed();
  spoil(config);
  expect(validate(config)).toBe(false);
  expect(validate.errors!.map(({ instancePath }) => instancePath)).toContain(place);
});
