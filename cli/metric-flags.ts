/** Options of metrics as flags: `--metrics expected-cost --metrics.expected-cost.costs "[[0,5],[1,0]]"`. */
import type { PluginFactory } from "../core/plugin/factory.ts";
import { type FlagGroup, type SectionValues, toCamel } from "./argv.ts";

/** The flags of a metric's options. */
const metricGroup = ({ name, options }: PluginFactory): FlagGroup => ({
  title: `metric ${name}`,
  section: `metrics.${toCamel(name)}`,
  flat: false,
  shape: options.shape,
});

/** The flags of some metrics, of each name once; those without options have none. */
export const metricGroups = (factories: readonly PluginFactory[]): FlagGroup[] =>
  factories
    .filter(({ name }, i) => factories.findIndex((other) => other.name === name) === i)
    .filter(({ options }) => Object.keys(options.shape).length > 0)
    .map(metricGroup);

/** What flags say of a metric's options. */
export const metricValues = (factory: PluginFactory, values: SectionValues): Readonly<Record<string, unknown>> =>
  values[metricGroup(factory).section] ?? {};
