/** From a command line to a config: finds the plugins first, for their options are flags too. */
import { ConfigError, PluginError } from "../core/errors.ts";
import type { PluginKind } from "../core/plugin/check.ts";
import type { PluginFactory } from "../core/plugin/factory.ts";
import type { Task } from "../core/plugin/task.ts";
import {
  loadConfig,
  mergeConfig,
  type Config,
  type ConfigInput,
  type PluginOverride,
} from "../runtime/config/config.ts";
import { dataOptions } from "../runtime/config/data-options.ts";
import { deviceOptions } from "../runtime/config/device-options.ts";
import { resolvePlugin } from "../runtime/config/resolve.ts";
import { TASK_METRICS, taskOptions, taskSection } from "../runtime/config/task-options.ts";
import { trainingOptions } from "../runtime/config/training-options.ts";
import type { FlagGroup, SectionValues } from "./argv.ts";
import { columnsGroup, columnsOf } from "./column-flags.ts";
import { quantizationOf, weightsGroup } from "./weights-flags.ts";
import type { Prepared } from "./command.ts";
import { metricGroups, metricValues } from "./metric-flags.ts";
import { chooseModel } from "./model-flag.ts";
import { reporterGroup, reportersOf } from "./reporter-flags.ts";
import type { Services } from "./sdk.ts";
import { readSelectors, type Selectors } from "./selectors.ts";

/** The plugins of a command line that names none. */
const DEFAULTS = {
  model: "gemma2",
  adapter: "lora",
  optimizer: "adamw8bit",
} as const;

export const dataGroup: FlagGroup = { title: "Data", section: "data", flat: true, shape: dataOptions.shape };
export const deviceGroup: FlagGroup = { title: "Device", section: "device", flat: true, shape: deviceOptions.shape };
export const taskGroup: FlagGroup = { title: "Task", section: "task", flat: true, shape: taskOptions.shape };
const trainingGroup: FlagGroup = { title: "Training", section: "training", flat: true, shape: trainingOptions.shape };

/**
 * Options of a command that makes a config: the sections, and those of the plugins that flags or the config file name.
 * @throws ConfigError, PluginError
 */
export async function prepareConfig(argv: readonly string[], services: Services, help: boolean): Promise<Prepared> {
  const from = process.cwd();
  const shipped = await services.plugins();
  const selected = readSelectors(argv);
  const file = help ? undefined : await loadConfig(selected.config, from, shipped);
  const preset = await presetOf(selected);
  const standard = <K extends PluginKind>(kind: K, name: string): PluginFactory<K> => {
    const found = shipped.find((factory) => factory.kind === kind && factory.name === name);
    if (found === undefined)
      throw new PluginError("PLUGIN_NOT_FOUND", `the ${kind} ${name} does not ship with this copy`);
    return found as PluginFactory<K>;
  };
  const fallback = (kind: "model" | "adapter" | "optimizer"): PluginFactory =>
    preset?.[kind].factory ?? file?.[kind].factory ?? standard(kind, DEFAULTS[kind]);
  const chosen = async (kind: "adapter" | "optimizer"): Promise<PluginFactory> => {
    const spec = selected[kind];
    return spec === undefined ? fallback(kind) : resolvePlugin(kind, spec, { shipped, from });
  };
  const model = await chooseModel(selected, { shipped, from, fallback: fallback("model"), file, help });
  const metricsOf = (task: Task = "classification"): PluginFactory[] =>
    TASK_METRICS[task].map((name) => standard("metric", name));
  const plugins = {
    model: model.factory,
    adapter: await chosen("adapter"),
    optimizer: await chosen("optimizer"),
  };
  const standing = preset?.metrics ?? file?.metrics;
  const metrics =
    selected.metrics === undefined
      ? (standing?.map(({ factory }) => factory) ?? ("of the task" as const))
      : await Promise.all(selected.metrics.map((name) => resolvePlugin("metric", name, { shipped, from })));
  /** What the file or the preset says of a metric; flags lie over it. */
  const inputOf = ({ name }: PluginFactory, i: number): object | undefined =>
    (selected.metrics === undefined ? standing?.[i] : standing?.find((metric) => metric.name === name))?.input;
  const metricsAsFiled = (values: SectionValues): boolean =>
    selected.metrics === undefined &&
    preset?.metrics === undefined &&
    file !== undefined &&
    metrics !== "of the task" &&
    metrics.every((factory) => Object.keys(metricValues(factory, values)).length === 0);

  const reporters =
    selected.reportTo === undefined
      ? (file?.reportTo ?? []).map(({ factory }) => factory)
      : (await reportersOf(argv, services)).map(({ factory }) => factory);

  const pluginGroup = (kind: keyof typeof plugins): FlagGroup => ({
    title: `${kind} ${plugins[kind].name}`,
    section: kind,
    flat: false,
    shape: plugins[kind].options.shape,
  });
  const config = (values: SectionValues): Config => {
    const override = (kind: keyof typeof plugins): PluginOverride => ({
      factory: plugins[kind],
      options: {
        ...(preset?.[kind].name === plugins[kind].name ? preset[kind].input : {}),
        ...(kind === "model" ? { ...model.options, ...quantizationOf(values) } : {}),
        ...values[kind],
      },
    });
    if ("checkpoint" in model.options && values["model"]?.["checkpoint"] !== undefined) {
      throw new ConfigError(
        "CONFIG_INVALID",
        "--model.checkpoint: got one beside a checkpoint in --model, expected one",
      );
    }
    const data = {
      ...presetData(preset, values["data"]),
      ...values["data"],
      ...columnsOf(values, file?.data.columns),
    };
    const training = { ...preset?.training, ...values["training"] };
    const device = { ...preset?.device, ...values["device"] };
    const task = { ...taskSection(preset?.task), ...values["task"] };
    return mergeConfig(file, {
      model: override("model"),
      adapter: override("adapter"),
      optimizer: override("optimizer"),
      reportTo: reporters.map((factory) => ({ factory, options: values[reporterGroup(factory).section] ?? {} })),
      metrics: metricsAsFiled(values)
        ? undefined
        : (metrics === "of the task" ? metricsOf(task.task) : metrics).map((factory, i) => ({
            factory,
            options: { ...inputOf(factory, i), ...metricValues(factory, values) },
          })),
      task,
      data,
      training,
      device,
    });
  };
  return {
    groups: [
      weightsGroup,
      pluginGroup("model"),
      pluginGroup("adapter"),
      pluginGroup("optimizer"),
      ...metricGroups(metrics === "of the task" ? [] : metrics),
      ...reporters.map(reporterGroup),
      taskGroup,
      trainingGroup,
      dataGroup,
      columnsGroup,
      deviceGroup,
    ],
    config,
  };
}

/** What `--preset` names; its values lie over the file's and under the other flags. @throws ConfigError */
async function presetOf({ preset }: Selectors): Promise<ConfigInput | undefined> {
  return preset === undefined ? undefined : (await import("../sdk/presets.ts")).findPreset(preset).config();
}

/** A preset's data options; files to evaluate on take the place of its held-out fold. */
function presetData(
  preset: ConfigInput | undefined,
  flags: SectionValues[string] = {},
): Readonly<Record<string, unknown>> {
  const { nSplits, foldIdx, ...rest } = preset?.data ?? {};
  return flags["evalFiles"] === undefined && nSplits !== undefined ? { ...rest, nSplits, foldIdx } : rest;
}
