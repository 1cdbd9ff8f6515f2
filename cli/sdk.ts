/** What the command line needs of the SDK; main.ts provides it. */
import type { PluginFactory } from "../core/plugin/factory.ts";
import type * as sdk from "../index.ts";

/** The SDK's verbs, with their own types. */
export type Sdk = Pick<
  typeof sdk,
  | "train"
  | "crossValidate"
  | "distill"
  | "sweep"
  | "syncRun"
  | "push"
  | "dryRun"
  | "evaluate"
  | "predict"
  | "merge"
  | "quantize"
  | "exportWeb"
  | "doctor"
  | "inspect"
  | "plan"
  | "bench"
  | "serve"
>;

/** Where the command line gets its heavy parts from; each is loaded when it is needed. */
export interface Services {
  sdk(): Promise<Sdk>;
  /** The plugins that ship with qlora. */
  plugins(): Promise<readonly PluginFactory[]>;
}
