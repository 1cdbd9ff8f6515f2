/** `--model`: a plugin, or a checkpoint that says by its config.json which plugin reads it. */
import type { PluginFactory } from "../core/plugin/factory.ts";
import type { Config } from "../runtime/config/config.ts";
import { resolvePlugin } from "../runtime/config/resolve.ts";
import { looksLikeCheckpoint } from "../runtime/hub/index.ts";
import { modelForCheckpoint } from "../runtime/session/base-model.ts";
import type { Selectors } from "./selectors.ts";

/** A model plugin, and the options that naming it gave. */
export interface ModelChoice {
  readonly factory: PluginFactory;
  readonly options: Readonly<Record<string, unknown>>;
}

interface ChoiceContext {
  readonly shipped: readonly PluginFactory[];
  /** Folder that files and packages are looked up from. */
  readonly from: string;
  /** The model where the flag is absent. */
  readonly fallback: PluginFactory;
  readonly file: Config | undefined;
  /** Nothing will run: look nothing up. */
  readonly help: boolean;
}

/** @throws PluginError, ConfigError; ModelError where the hub gives no config.json */
export async function chooseModel(
  { model: spec, revision }: Pick<Selectors, "model" | "revision">,
  context: ChoiceContext,
): Promise<ModelChoice> {
  const { shipped, from, fallback, file, help } = context;
  if (spec === undefined) return { factory: fallback, options: {} };
  if (shipped.some(({ name }) => name === spec) || !looksLikeCheckpoint(spec)) {
    return { factory: await resolvePlugin("model", spec, { shipped, from }), options: {} };
  }
  if (help) return { factory: fallback, options: {} };
  const candidates = [...(file === undefined ? [] : [file.model.factory]), ...shipped];
  const factory = await modelForCheckpoint(spec, candidates, { revision });
  // The file's revision is of the file's checkpoint.
  return {
    factory,
    options: { checkpoint: spec, ...("revision" in factory.options.shape ? { revision: undefined } : {}) },
  };
}
