/** The config of a run: plugins as values, and the sections of options. Flag wins over file, file over default. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { formatValue } from "../../core/options/describe.ts";
import type { OptionSet, OptionShape, OptionsOutput } from "../../core/options/options.ts";
import type { AdapterPlugin } from "../../core/plugin/adapter.ts";
import type { PluginKind } from "../../core/plugin/check.ts";
import { isPlugin, type Plugin, type PluginFactory } from "../../core/plugin/factory.ts";
import type { MetricPlugin } from "../../core/plugin/metric.ts";
import type { ModelPlugin } from "../../core/plugin/model.ts";
import type { OptimizerPlugin } from "../../core/plugin/optimizer.ts";
import type { ReporterPlugin } from "../../core/plugin/reporter.ts";
import type { TemplatePlugin } from "../../core/plugin/template.ts";
import type { SchedulePlugin } from "../../core/plugin/schedule.ts";
import { unknownKeys } from "../../core/util/suggest.ts";
import { dataOptions, type DataOptions, type DataOptionsInput } from "./data-options.ts";
import { deviceOptions, type DeviceOptions, type DeviceOptionsInput } from "./device-options.ts";
import { loadReason } from "./load-reason.ts";
import { isLoss, type Loss } from "./loss.ts";
import { versionProblem } from "./plugin-version.ts";
import { configFactories, rememberSpec, specOf } from "./resolve.ts";
import { taskProblems } from "./task-check.ts";
import { type TaskInput, taskOptions, type TaskOptions, taskSection } from "./task-options.ts";
import {
  changedSoftLabelOptions,
  trainingOptions,
  type TrainingOptions,
  type TrainingOptionsInput,
} from "./training-options.ts";

/** What `defineConfig` takes. */
export interface ConfigInput {
  readonly model: ModelPlugin;
  readonly adapter: AdapterPlugin;
  readonly optimizer: OptimizerPlugin;
  readonly metrics?: readonly MetricPlugin[];
  /** Where the log goes besides the run's folder: `[tensorboard(), wandb({ project: "lmsys" })]`. */
  readonly reportTo?: readonly ReporterPlugin[];
  /** A loss of your own (`defineLoss`) in place of `training.loss`. */
  readonly loss?: Loss | undefined;
  /** A schedule of your own (`defineSchedule`) in place of `training.lrSchedulerType`. */
  readonly schedule?: SchedulePlugin | undefined;
  /** A template of your own (`defineTemplate`) in place of `data.template`. */
  readonly template?: TemplatePlugin | undefined;
  /** What the model gives for a row: a task's name, or the options of the task. Default: classification. */
  readonly task?: TaskInput;
  readonly data?: DataOptionsInput;
  readonly training?: TrainingOptionsInput;
  readonly device?: DeviceOptionsInput;
}

/** A checked config, defaults filled in. */
export interface Config extends Required<
  Omit<ConfigInput, "data" | "training" | "device" | "loss" | "schedule" | "template" | "task">
> {
  readonly kind: "config";
  readonly loss: Loss | undefined;
  readonly schedule: SchedulePlugin | undefined;
  readonly template: TemplatePlugin | undefined;
  readonly task: TaskOptions;
  readonly data: DataOptions;
  readonly training: TrainingOptions;
  readonly device: DeviceOptions;
  /** The config as it was given, so that flags can be laid over it before defaults are filled in. */
  readonly input: ConfigInput;
}

/** What flags say about one plugin: which it is, and options to lay over the file's where that has the same. */
export interface PluginOverride {
  readonly factory: PluginFactory;
  readonly options: Readonly<Record<string, unknown>>;
}

/** What the command line lays over a config file. */
export interface ConfigOverrides {
  readonly model: PluginOverride;
  readonly adapter: PluginOverride;
  readonly optimizer: PluginOverride;
  /** Undefined leaves the file's. */
  readonly metrics: readonly PluginOverride[] | undefined;
  /** Undefined leaves the file's. */
  readonly reportTo: readonly PluginOverride[] | undefined;
  readonly task?: Readonly<Record<string, unknown>> | undefined;
  readonly data: Readonly<Record<string, unknown>>;
  readonly training: Readonly<Record<string, unknown>>;
  readonly device: Readonly<Record<string, unknown>>;
}

export const CONFIG_FILE = "qlora.config.ts";

const CONFIG_KEYS = [
  "model",
  "adapter",
  "optimizer",
  "metrics",
  "reportTo",
  "loss",
  "schedule",
  "template",
  "task",
  "data",
  "training",
  "device",
];
/** Plugins of a list, at most. */
const MAX_LISTED = 1000;
const SINGLE_KINDS = ["model", "adapter", "optimizer"] as const;
type SingleKind = (typeof SINGLE_KINDS)[number];

interface Sections {
  readonly task: TaskOptions;
  readonly data: DataOptions;
  readonly training: TrainingOptions;
  readonly device: DeviceOptions;
}

/** Checks the sections of options; problems are added to `problems`. */
function checkSections(input: ConfigInput, problems: string[]): Sections {
  const section = <S extends OptionShape>(set: OptionSet<S>, name: string, value: unknown): OptionsOutput<S> => {
    const checked = set.check(value === undefined ? {} : value, name); // null is no section
    if (checked.ok) return checked.value;
    // Where transformers has it, and qlora 0.2 had.
    const moved = "reportTo is a list of reporters beside training: reportTo: [tensorboard()]";
    problems.push(...checked.problems.map((one) => (one.startsWith("training.reportTo:") ? `${one}; ${moved}` : one)));
    return {} as OptionsOutput<S>; // never read: the caller throws the problems
  };
  return {
    task: section(taskOptions, "task", taskSection(input.task)),
    data: section(dataOptions, "data", input.data),
    training: section(trainingOptions, "training", input.training),
    device: section(deviceOptions, "device", input.device),
  };
}

function checkPlugins(input: ConfigInput, problems: string[]): void {
  const check = (path: string, kind: PluginKind, value: unknown): void => {
    if (isPlugin(value, kind)) {
      const problem = versionProblem(value.factory.qlora);
      if (problem !== undefined) problems.push(`${path}: ${value.name} ${problem}`);
      return;
    }
    problems.push(
      `${path}: got ${formatValue(value)}, expected a configured ${kind} (what calling its factory returns)`,
    );
  };
  for (const kind of SINGLE_KINDS) check(kind, kind, input[kind]);
  if (input.schedule !== undefined) check("schedule", "schedule", input.schedule);
  if (input.template !== undefined) check("template", "template", input.template);
  const list = (key: "metrics" | "reportTo", kind: PluginKind): void => {
    const listed: unknown = input[key] === undefined ? [] : input[key];
    if (Array.isArray(listed) && listed.length <= MAX_LISTED)
      Array.from(listed, (plugin: unknown, i) => check(`${key}[${i}]`, kind, plugin)); // holes too
    else if (Array.isArray(listed)) problems.push(`${key}: got ${listed.length}, expected at most ${MAX_LISTED}`);
    else problems.push(`${key}: got ${formatValue(listed)}, expected a list of ${kind}s`);
  };
  list("metrics", "metric");
  list("reportTo", "reporter");
}

/** reporters.json keeps what each has by its name. */
function checkReporters({ reportTo = [] }: ConfigInput, problems: string[]): void {
  const names = reportTo.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) problems.push(`reportTo: got ${twice} twice, expected each reporter once`);
}

function checkSchedule({ schedule }: ConfigInput, training: TrainingOptions, problems: string[]): void {
  const named = training.lrSchedulerType !== trainingOptions.shape.lrSchedulerType.default;
  if (schedule === undefined || (!named && Object.keys(training.lrSchedulerKwargs).length === 0)) return;
  problems.push(
    `schedule: got ${schedule.name} together with training.lrSchedulerType or training.lrSchedulerKwargs, expected only one`,
  );
}

function checkLoss({ loss }: ConfigInput, training: TrainingOptions, problems: string[]): void {
  if (loss !== undefined && !isLoss(loss)) {
    problems.push(`loss: got ${formatValue(loss)}, expected a loss (what defineLoss returns)`);
    return;
  }
  if (loss !== undefined && (training.loss !== "auto" || training.classWeights !== undefined))
    problems.push(`loss: got ${loss.name} together with training.loss or training.classWeights, expected only one`);
  if (loss !== undefined && training.labelSmoothingFactor !== 0)
    problems.push(
      `training.labelSmoothingFactor: got ${training.labelSmoothingFactor} with loss ${loss.name}, which leaves it unused`,
    );
  const name = loss?.name ?? training.loss;
  if (loss !== undefined || name === "cross-entropy") {
    for (const { option, got } of changedSoftLabelOptions(training))
      problems.push(
        `training.${option}: got ${got} with loss ${name}, which leaves it unused, expected loss soft-label`,
      );
  } else if (training.softLabelWeight === 0 && training.softLabelTemperature !== 1) {
    const got = training.softLabelTemperature;
    problems.push(`training.softLabelTemperature: got ${got} with softLabelWeight 0, which leaves it unused`);
  }
}

/**
 * Checks a config and fills in defaults.
 * @throws ConfigError listing every problem
 * @example export default defineConfig({ model: gemma2({ checkpoint: "gemma" }), adapter: lora(), optimizer: adamW8bit() });
 */
export function defineConfig(input: ConfigInput): Config {
  if (!isObject(input)) {
    throw new ConfigError("CONFIG_INVALID", `config: got ${formatValue(input)}, expected an object of sections`, {
      hint: "Write defineConfig({ model, adapter, optimizer, ... }).",
    });
  }
  const problems = unknownKeys(input, CONFIG_KEYS, "section");
  checkPlugins(input, problems);
  const sections = checkSections(input, problems);
  if (problems.length === 0) {
    checkLoss(input, sections.training, problems);
    checkSchedule(input, sections.training, problems);
    checkReporters(input, problems);
    problems.push(...taskProblems({ ...sections, metrics: input.metrics ?? [], loss: input.loss }));
  }
  if (problems.length > 0) throw new ConfigError("CONFIG_INVALID", problems);
  const { model, adapter, optimizer, metrics = [], reportTo = [], loss, schedule, template } = input;
  return {
    kind: "config",
    model,
    adapter,
    optimizer,
    metrics,
    reportTo,
    loss,
    schedule,
    template,
    ...sections,
    input: input,
  };
}

const isConfig = (value: unknown): value is Config =>
  isObject(value) &&
  value["kind"] === "config" &&
  SINGLE_KINDS.every((kind) => isPlugin(value[kind], kind)) &&
  Array.isArray(value["metrics"]) &&
  Array.isArray(value["reportTo"]) &&
  ["task", "data", "training", "device", "input"].every((key) => isObject(value[key]));

/** `config` itself. @throws ConfigError where it is not what `defineConfig` returns, such as its bare input */
export function requireConfig(config: Config): Config {
  if (isConfig(config)) return config;
  throw new ConfigError("CONFIG_EXPECTED", `config: got ${formatValue(config)}, expected what defineConfig returns`, {
    hint: "Write defineConfig({ model, adapter, optimizer, ... }).",
  });
}

/**
 * Loads a config file: `path`, or qlora.config.ts in `folder` where there is one. Plugins in it that do not ship are remembered
 * by the file, so that a run's record finds them again.
 * @throws ConfigError where the file named is missing, does not load, or exports no config
 */
export async function loadConfig(
  path: string | undefined,
  folder: string,
  shipped: readonly PluginFactory[] = [],
): Promise<Config | undefined> {
  const file = resolve(folder, path ?? CONFIG_FILE);
  if (!existsSync(file)) {
    if (path === undefined) return undefined;
    throw new ConfigError("CONFIG_NOT_FOUND", `--config ${path}: no such file (looked for ${file})`);
  }
  let exported: unknown;
  try {
    ({ default: exported } = (await import(pathToFileURL(file).href)) as { default?: unknown });
  } catch (cause) {
    if (cause instanceof ConfigError) {
      throw new ConfigError(
        cause.code,
        cause.problems.map((problem) => `${file}: ${problem}`),
        { cause },
      );
    }
    throw new ConfigError("CONFIG_LOAD_FAILED", `${file} does not load: ${loadReason(cause, file)}`, { cause });
  }
  if (isConfig(exported)) {
    for (const factory of configFactories(exported)) {
      if (!shipped.some(({ kind, name }) => kind === factory.kind && name === factory.name))
        rememberSpec(factory, file);
    }
    return exported;
  }
  throw new ConfigError("CONFIG_EXPORT", `${file}: the default export is ${formatValue(exported)}, expected a config`, {
    hint: "Write export default defineConfig({ ... }).",
  });
}

/**
 * Lays flags over a config file's values.
 * @throws ConfigError listing every problem
 */
export function mergeConfig(file: Config | undefined, flags: ConfigOverrides): Config {
  const given = file?.input;
  const problems: string[] = [];
  const laid = (fromFile: Plugin | undefined, { factory, options }: PluginOverride): Plugin | undefined => {
    const base = fromFile?.name === factory.name ? fromFile.input : {};
    try {
      return factory.configure({ ...base, ...options });
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems);
      return fromFile; // never read: the problems are thrown below
    }
  };
  const plugin = <K extends SingleKind>(kind: K): ConfigInput[K] => laid(given?.[kind], flags[kind]) as ConfigInput[K];
  let howToSet: string | undefined;
  const metric = ({ factory, options }: PluginOverride): MetricPlugin => {
    try {
      return factory.configure(options) as MetricPlugin;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      const told = error.problems.map((problem) => problem.replace(/^metric\.(\w+)/, `metric ${factory.name}: $1`));
      problems.push(...told);
      const option = /^metric\.(\w+)/.exec(error.problems[0] ?? "")?.[1] ?? "OPTION";
      howToSet ??= `Give it as --metrics.${kebab(factory.name)}.${kebab(option)} VALUE, or in a config file as an option of the metric: { ${option}: VALUE }.`;
      return undefined as never; // never read: the problems are thrown below
    }
  };
  const reporters = flags.reportTo?.map(
    (flag) =>
      laid(
        given?.reportTo?.find(({ name }) => name === flag.factory.name),
        flag,
      ) as ReporterPlugin,
  );
  const input: ConfigInput = {
    model: plugin("model"),
    adapter: plugin("adapter"),
    optimizer: plugin("optimizer"),
    metrics: flags.metrics?.map(metric) ?? given?.metrics ?? [],
    reportTo: reporters ?? given?.reportTo ?? [],
    loss: given?.loss,
    schedule: given?.schedule,
    // A flag that names another takes its place.
    template: flags.data["template"] === undefined ? given?.template : undefined,
    task: { ...taskSection(given?.task), ...flags.task },
    data: { ...given?.data, ...flags.data },
    training: { ...given?.training, ...flags.training },
    device: { ...given?.device, ...flags.device },
  };
  if (problems.length === 0) return defineConfig(input);
  checkSections(input, problems);
  // What anybody sees who runs a bare command in an empty folder.
  const bare = problems.some((problem) => problem.startsWith("model.checkpoint: got nothing"));
  const hint =
    "Give --model a checkpoint's folder or a model of the hub as org/name, or write a config with qlora init.";
  const next = bare ? hint : howToSet;
  throw new ConfigError("CONFIG_INVALID", problems, next === undefined ? {} : { hint: next });
}

const kebab = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The config as plain JSON: each plugin as its name and options, and the sections. */
export function configToJson(config: Config): Readonly<Record<string, unknown>> {
  const plain = ({ name, options, factory }: Pick<Plugin, "name" | "options" | "factory">): object => {
    const from = specOf(factory);
    return { name, options, ...(from === undefined ? {} : { from }) };
  };
  return {
    model: plain(config.model),
    adapter: plain(config.adapter),
    optimizer: plain(config.optimizer),
    metrics: config.metrics.map(plain),
    ...(config.reportTo.length === 0 ? {} : { reportTo: config.reportTo.map(plain) }),
    ...(config.loss === undefined ? {} : { loss: { name: config.loss.name, options: config.loss.options } }),
    ...(config.schedule === undefined ? {} : { schedule: plain(config.schedule) }),
    ...(config.template === undefined ? {} : { template: plain(config.template) }),
    task: config.task,
    data: config.data,
    training: config.training,
    device: config.device,
  };
}
