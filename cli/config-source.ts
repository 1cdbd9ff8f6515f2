/** A config as the text of a qlora.config.ts, with every option's help beside it. */
import type { Option, OptionShape } from "../core/options/options.ts";
import type { Plugin } from "../core/plugin/factory.ts";
import type { ConfigInput } from "../runtime/config/config.ts";
import { dataOptions } from "../runtime/config/data-options.ts";
import { deviceOptions } from "../runtime/config/device-options.ts";
import { taskOptions, taskSection } from "../runtime/config/task-options.ts";
import { trainingOptions } from "../runtime/config/training-options.ts";

/** Plugins by the name that they are imported by. */
export type PluginExports = Readonly<Record<string, unknown>>;

const HEAD = `/** The config of \`qlora train\` in this folder. Flags win over it; what is commented out is the default. */`;

/** Writes `input` out; its plugins must be among `plugins`. */
export function configSource(input: ConfigInput, plugins: PluginExports): string {
  const used = new Set<string>();
  const call = (plugin: Plugin, indent: string): string => {
    const name = Object.keys(plugins).find((key) => plugins[key] === plugin.factory);
    if (name === undefined) throw new RangeError(`${plugin.name} is not among the exports`);
    used.add(name);
    const body = optionLines(plugin.factory.options.shape, plugin.input, `${indent}  `);
    return body === "" ? `${name}()` : `${name}({\n${body}${indent}})`;
  };
  const section = (shape: OptionShape, given: object = {}): string => `{\n${optionLines(shape, given, "    ")}  }`;
  const metrics = (input.metrics ?? []).map((metric) => call(metric, "  ")).join(", ");
  const body = [
    `model: ${call(input.model, "  ")}`,
    `adapter: ${call(input.adapter, "  ")}`,
    `optimizer: ${call(input.optimizer, "  ")}`,
    `metrics: [${metrics}]`,
    `task: ${section(taskOptions.shape, taskSection(input.task))}`,
    `data: ${section(dataOptions.shape, input.data)}`,
    `training: ${section(trainingOptions.shape, input.training)}`,
    `device: ${section(deviceOptions.shape, input.device)}`,
  ];
  return [
    HEAD,
    `import { defineConfig } from "qlora";`,
    `import { ${[...used].toSorted().join(", ")} } from "qlora/plugins";`,
    "",
    "export default defineConfig({",
    ...body.map((part) => `  ${part},`),
    "});",
    "",
  ].join("\n");
}

/** One line an option: what is given stands, the rest is commented out. */
function optionLines(shape: OptionShape, given: object, indent: string): string {
  const values = given as Readonly<Record<string, unknown>>;
  return Object.entries(shape)
    .map(([key, option]) => {
      const value = values[key];
      const stands = value !== undefined;
      const text = `${key}: ${literal(stands ? value : unset(option, shape, values))},`;
      return `${indent}${stands ? "" : "// "}${text} // ${option.help}\n`;
    })
    .join("");
}

/** The value of an option that is not given. */
const unset = (option: Option, shape: OptionShape, values: Readonly<Record<string, unknown>>): unknown =>
  option.defaultFrom === undefined
    ? option.default
    : (values[option.defaultFrom] ?? shape[option.defaultFrom]?.default);

/** A value as an author would write it. */
function literal(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  return value === undefined ? "undefined" : JSON.stringify(value);
}
