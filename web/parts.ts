/** The plugins that a page's manifest names, of those that ship: a page runs no code but its own. */
import { ModelError } from "../core/errors.ts";
import type { Folder } from "../core/formats/bytes.ts";
import { readAdapterConfig } from "../core/formats/peft.ts";
import type { AdapterFactory, AdapterPlugin } from "../core/plugin/adapter.ts";
import { isPluginFactory, type PluginFactory } from "../core/plugin/factory.ts";
import type { ModelFactory, ModelLoader } from "../core/plugin/model.ts";
import * as plugins from "../plugins/index.ts";
import type { SiteManifest } from "./manifest.ts";

/** Where a judge's files are. */
export interface SiteFolders {
  readonly model: Folder;
  readonly adapter: Folder;
}

const shipped: readonly PluginFactory[] = Object.values<unknown>(plugins).filter((value) => isPluginFactory(value));

const isAdapter = (factory: PluginFactory): factory is AdapterFactory =>
  factory.kind === "adapter" && "reads" in factory;
const isModel = (factory: PluginFactory): factory is ModelFactory =>
  factory.kind === "model" && "modelTypes" in factory;

/** The shipped model of that name; undefined where there is none. */
export const shippedModel = (name: string): ModelFactory | undefined =>
  shipped.filter(isModel).find((factory) => factory.name === name);

/** The shipped adapter that reads such an adapter_config.json; undefined where there is none. */
export const shippedAdapter = (config: Readonly<Record<string, unknown>>): AdapterFactory | undefined =>
  shipped.filter(isAdapter).find((factory) => factory.reads(config));

/** The judge's model and adapter. @throws ModelError where this page has no plugin for them */
export async function judgeParts(
  { model }: Pick<SiteManifest, "model">,
  folders: SiteFolders,
): Promise<{ readonly source: ModelLoader; readonly adapter: AdapterPlugin }> {
  const factory = shippedModel(model.name);
  if (factory === undefined) throw unknown(`the model plugin ${JSON.stringify(model.name)}`);
  const config = await readAdapterConfig(folders.adapter);
  const reader = shippedAdapter(config);
  if (reader === undefined) throw unknown(`an adapter of peft_type ${JSON.stringify(config["peft_type"])}`);
  const plugin = factory.configure({ ...model.options, checkpoint: folders.model.name });
  return { source: plugin.create({ openFolder: () => folders.model }), adapter: reader.fromConfig(config) };
}

const unknown = (what: string): ModelError =>
  new ModelError("SITE_PLUGIN", `this page has no code for ${what}`, {
    hint: "Only models and adapters that ship with qlora run in a page.",
  });
