/** Reporters that a command line names, whose options are flags too: `--report-to wandb --report-to.wandb.project lmsys`. */
import type { PluginFactory } from "../core/plugin/factory.ts";
import type { ReporterPlugin } from "../core/plugin/reporter.ts";
import { resolvePlugin } from "../runtime/config/resolve.ts";
import { type FlagGroup, type SectionValues, toCamel } from "./argv.ts";
import type { Prepared } from "./command.ts";
import type { Services } from "./sdk.ts";
import { readSelectors } from "./selectors.ts";

/** A reporter with its flags. */
interface NamedReporter {
  readonly factory: PluginFactory<"reporter">;
  readonly group: FlagGroup;
  /** @throws ConfigError */
  readonly configure: (values: SectionValues) => ReporterPlugin;
}

/** The flags of a reporter's options. */
export const reporterGroup = ({ name, options }: PluginFactory): FlagGroup => ({
  title: `reporter ${name}`,
  section: `reportTo.${toCamel(name)}`,
  flat: false,
  shape: options.shape,
});

/** The reporters that `--report-to` names, none where it is not given. @throws PluginError */
export async function reportersOf(argv: readonly string[], services: Services): Promise<NamedReporter[]> {
  const shipped = await services.plugins();
  const names = readSelectors(argv).reportTo ?? [];
  return Promise.all(
    names.map(async (spec) => {
      const factory = await resolvePlugin("reporter", spec, { shipped, from: process.cwd() });
      const group = reporterGroup(factory);
      return {
        factory,
        group,
        configure: (values) => factory.configure(values[group.section] ?? {}) as ReporterPlugin,
      };
    }),
  );
}

/** Options of a command that sends to reporters. */
export async function prepareReporters(argv: readonly string[], services: Services): Promise<Prepared> {
  return { groups: (await reportersOf(argv, services)).map(({ group }) => group) };
}
