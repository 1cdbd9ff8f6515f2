/** docs/config.schema.json: a config as JSON (`--print-config`, run.json's `config`) for editors, from the options' own schemas. */
import { type } from "arktype";
import type { Option, OptionSet } from "../../core/options/options.ts";
import type { PluginKind } from "../../core/plugin/check.ts";
import { article, isPluginFactory } from "../../core/plugin/factory.ts";
import * as plugins from "../../plugins/index.ts";
import { dataOptions } from "../../runtime/config/data-options.ts";
import { deviceOptions } from "../../runtime/config/device-options.ts";
import { taskOptions } from "../../runtime/config/task-options.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";

/** Where the schema stands, from the root. */
export const CONFIG_SCHEMA = "docs/config.schema.json";

type Json = Readonly<Record<string, unknown>>;

function optionSchema({ definition, help, default: standard }: Option): Json {
  const { $schema: _, ...schema } = type.raw(definition).toJsonSchema() as Json;
  return { ...schema, description: help, ...(standard === undefined ? {} : { default: standard }) };
}

function setSchema({ shape }: OptionSet): Json {
  const required = Object.keys(shape).filter((key) => shape[key]!.presence === "required");
  return {
    type: "object",
    properties: Object.fromEntries(Object.entries(shape).map(([key, option]) => [key, optionSchema(option)])),
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  };
}

/** A plugin that ships, with its options; or another's, which says where it is from. */
function pluginSchema(kind: PluginKind): Json {
  const shipped = Object.values<unknown>(plugins).filter((value) => isPluginFactory(value, kind));
  const named = (name: Json, options: Json, from: Json): Json => ({
    type: "object",
    properties: { name, options, ...from },
    required: ["name", "options", ...Object.keys(from)],
    additionalProperties: false,
  });
  return {
    description: `${article(kind)} by its name, with its options`,
    anyOf: [
      ...shipped.map(({ name, options }) => named({ const: name }, setSchema(options), {})),
      named(
        { type: "string" },
        { type: "object" },
        { from: { type: "string", description: "the package or the file that it is from" } },
      ),
    ],
  };
}

/** The schema as the file has it. */
export function configSchema(): string {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "A config of qlora",
    description: "What `qlora train --print-config` prints and run.json holds as `config`.",
    type: "object",
    properties: {
      model: pluginSchema("model"),
      adapter: pluginSchema("adapter"),
      optimizer: pluginSchema("optimizer"),
      metrics: { type: "array", items: pluginSchema("metric") },
      reportTo: { type: "array", items: pluginSchema("reporter") },
      loss: {
        type: "object",
        description: "a user-defined loss, in place of training.loss",
        properties: { name: { type: "string" }, options: { type: "object" } },
        required: ["name"],
      },
      schedule: pluginSchema("schedule"),
      template: pluginSchema("template"),
      task: setSchema(taskOptions),
      data: setSchema(dataOptions),
      training: setSchema(trainingOptions),
      device: setSchema(deviceOptions),
    },
    required: ["model", "adapter", "optimizer"],
    additionalProperties: false,
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
