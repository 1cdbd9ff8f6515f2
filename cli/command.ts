/** What a command's file exports, and what its run gets; `run` returns an exit code where it is not 0. */
import type { CommandDef } from "citty";
import type { Config } from "../runtime/config/config.ts";
import type { FlagGroup, SectionValues } from "./argv.ts";
import type { Services } from "./sdk.ts";

/** A command's options, known once its plugins are. */
export interface Prepared {
  readonly groups: readonly FlagGroup[];
  /** Makes the config from the flags' values. @throws ConfigError listing every problem */
  readonly config?: (values: SectionValues) => Config;
}

/** A command whatever its flags; citty erases the type of its subcommands in the same way. */
// oxlint-disable-next-line typescript/no-explicit-any
export type AnyCommand = CommandDef<any>;

export interface CommandModule {
  readonly default: AnyCommand;
  /** Further positionals are allowed. */
  readonly variadic?: boolean;
  /** Own flags that may be given several times; `run` gets the values joined by spaces. */
  readonly repeatable?: readonly string[];
  /** Finds the command's options; `help` says that nothing will run, so no config file is loaded. */
  readonly prepare?: (argv: readonly string[], services: Services, help: boolean) => Promise<Prepared>;
}

/** What `run` finds in `context.data`. */
export interface CommandData {
  readonly services: Services;
  readonly values: SectionValues;
  readonly positionals: readonly string[];
  readonly config: Config | undefined;
  /** Runs another command line and returns its exit code. */
  readonly run: (argv: readonly string[]) => Promise<number>;
}

/** citty's `data` is untyped; main() puts this in it. */
export const dataOf = (context: { readonly data?: unknown }): CommandData => context.data as CommandData;
