import { peekFlag } from "./argv.ts";

/** What chooses a config's file and plugins, whose options are flags too: read before all other flags are known. */
export interface Selectors {
  readonly config: string | undefined;
  readonly preset: string | undefined;
  /** A plugin, or a checkpoint. */
  readonly model: string | undefined;
  /** Of a checkpoint on the hub. */
  readonly revision: string | undefined;
  readonly adapter: string | undefined;
  readonly optimizer: string | undefined;
  readonly metrics: readonly string[] | undefined;
  /** Reporters; empty for `none`. */
  readonly reportTo: readonly string[] | undefined;
}

/** Reads them once. */
export function readSelectors(argv: readonly string[]): Selectors {
  const list = (name: string): readonly string[] | undefined =>
    peekFlag(argv, name)
      ?.split(",")
      .map((word) => word.trim());
  const reportTo = list("report-to");
  return {
    config: peekFlag(argv, "config"),
    preset: peekFlag(argv, "preset"),
    model: peekFlag(argv, "model"),
    revision: peekFlag(argv, "model.revision"),
    adapter: peekFlag(argv, "adapter"),
    optimizer: peekFlag(argv, "optimizer"),
    metrics: list("metrics"),
    reportTo: reportTo?.join() === "none" ? [] : reportTo,
  };
}
