/** Finds the plugin that a command line names: a shipped one, an npm package, a file, or a package's folder. */
import { existsSync, readdirSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { PluginError } from "../../core/errors.ts";
import type { PluginKind } from "../../core/plugin/check.ts";
import { article, isPluginFactory, type PluginFactory } from "../../core/plugin/factory.ts";
import { nearestName, suggestion } from "../../core/util/suggest.ts";
import { isFolder } from "../files/stat.ts";
import { loadReason } from "./load-reason.ts";
import {
  entryOf,
  findPackage,
  installedPlugins,
  manifestOf,
  packageNames,
  PLUGIN_PREFIX,
  resolvePackage,
} from "./package.ts";
import { peerProblem, versionProblem } from "./plugin-version.ts";

export interface ResolveContext {
  /** The plugins that ship with qlora. */
  readonly shipped: readonly PluginFactory[];
  /** Folder that files and packages are looked up from. */
  readonly from: string;
}

/** The flag that names plugins of a kind. */
export const flagOf = (kind: PluginKind): string => FLAGS.get(kind) ?? kind;
const FLAGS: ReadonlyMap<PluginKind, string> = new Map([
  ["metric", "metrics"],
  ["reporter", "report-to"],
]);
const maker = (kind: PluginKind): string => `define${kind[0]!.toUpperCase()}${kind.slice(1)}`;
/** True for what is looked up as a file or a folder, not as a package. */
export const isFileSpec = (spec: string): boolean => /^(\.{1,2}([\\/]|$)|file:)/.test(spec) || isAbsolute(spec);

const OTHER_RELEASE = "Install a release of the plugin that is made for this qlora, or the qlora that it is made for.";

/** What found a factory, for the run record. */
const specs = new WeakMap<PluginFactory, string>();
/** The factories that a spec found in this process. */
const loaded = new Map<string, PluginFactory>();

function remember(factory: PluginFactory, spec: string): void {
  specs.set(factory, spec);
  loaded.set(spec, factory);
}

/** The factory that the command line or a config file brought by this spec; undefined where none did. */
export const loadedBy = (spec: string): PluginFactory | undefined => loaded.get(spec);

/** Factories of the plugins that a config holds, whichever copy of qlora made it; none for another value. */
export function configFactories(config: unknown): readonly PluginFactory[] {
  if (typeof config !== "object" || config === null || !("kind" in config) || config.kind !== "config") return [];
  const { model, adapter, optimizer, schedule, template, metrics, reportTo } = config as unknown as Readonly<
    Record<string, unknown>
  >;
  const listed = [metrics, reportTo].flatMap((list) => (Array.isArray(list) ? (list as readonly unknown[]) : []));
  const plugins = [model, adapter, optimizer, schedule, template, ...listed];
  return plugins
    .map((plugin) => (plugin as { readonly factory?: unknown } | undefined)?.factory)
    .filter((factory): factory is PluginFactory => isPluginFactory(factory));
}

/** Notes that a config file holds this factory, unless something found it before. */
export function rememberSpec(factory: PluginFactory, configFile: string): void {
  if (!specs.has(factory)) remember(factory, `${configFile}#${factory.name}`);
}

/** How `resolvePlugin` can find this factory again: a package's name or a file's path; undefined for one that ships. */
export const specOf = (factory: PluginFactory): string | undefined => specs.get(factory);

/**
 * The factory that `spec` names: `lora`; `foo`, which is the package qlora-plugin-foo or foo; `@me/foo`, which is itself or
 * @me/qlora-plugin-foo; `./foo.ts`, or `./foo` for a package's folder. `#name` picks one of several exports, or a
 * plugin by its name from a config file.
 * @throws PluginError saying which package or file, which exports, and what was expected
 */
export async function resolvePlugin<K extends PluginKind>(
  kind: K,
  spec: string,
  { shipped, from }: ResolveContext,
): Promise<PluginFactory<K>> {
  const known = shipped.find((factory) => factory.name === spec);
  if (known !== undefined) {
    if (known.kind === kind) return known as PluginFactory<K>;
    throw new PluginError(
      "PLUGIN_KIND",
      `--${flagOf(kind)} ${spec}: ${spec} is ${article(known.kind)}, expected ${article(kind)}`,
      {
        hint: `Give it as --${flagOf(known.kind)} ${spec}.`,
      },
    );
  }
  const [source = "", exportName] = spec.split("#");
  const path = isFileSpec(source) ? filePath(kind, source, from) : packagePath(kind, source, { shipped, from });
  checkPackage(kind, spec, path);
  const module = await load(kind, spec, path);
  const factory = pick(kind, spec, path, module, exportName) as PluginFactory<K>;
  const problem = versionProblem(factory.qlora);
  if (problem !== undefined) {
    throw new PluginError("PLUGIN_VERSION", `--${flagOf(kind)} ${spec}: ${factory.name} ${problem}`, {
      hint: OTHER_RELEASE,
    });
  }
  const again = isFileSpec(source) ? path : source;
  remember(factory, exportName === undefined ? again : `${again}#${exportName}`);
  return factory;
}

function filePath(kind: PluginKind, source: string, from: string): string {
  const path = source.startsWith("file:") ? fileURLToPath(source) : resolve(from, source);
  if (!existsSync(path)) {
    const folder = dirname(path);
    const near = nearestName(basename(path), existsSync(folder) ? readdirSync(folder) : []);
    const guess = near === undefined ? "" : `; did you mean "${near}"?`;
    throw new PluginError("PLUGIN_NOT_FOUND", `--${flagOf(kind)} ${source}: ${path} does not exist${guess}`, {
      hint: "Give the path of a TypeScript or JavaScript file, or of a package's folder.",
    });
  }
  if (!isFolder(path)) return path;
  const entry = entryOf(path);
  if (entry !== undefined) return entry;
  throw noEntry(kind, source, path);
}

function packagePath(kind: PluginKind, source: string, { shipped, from }: ResolveContext): string {
  const candidates = packageNames(source);
  for (const name of candidates) {
    const path = resolvePackage(name, from);
    if (path !== undefined) return path;
    const folder = findPackage(name, from);
    if (folder !== undefined) throw noEntry(kind, source, folder);
  }
  const names = shipped.filter((factory) => factory.kind === kind).map((factory) => factory.name);
  const installed = installedPlugins(from).flatMap((name) => [name, name.replace(PLUGIN_PREFIX, "")]);
  const near = nearestName(source, [...names, ...installed]);
  const guess = near === undefined ? suggestion(source, names) : `; did you mean "${near}"?`;
  throw new PluginError(
    "PLUGIN_NOT_FOUND",
    `--${flagOf(kind)} ${source}: no shipped ${kind} has this name and no package ${candidates.join(" or ")} is installed${guess}`,
    {
      hint: isFolder(resolve(from, source))
        ? `Write ./${source} for the folder of this name.`
        : `Install the package (bun add ${candidates[0]}), or write ./${source}.ts for a file.` +
          (kind === "model" ? " A checkpoint is a folder that is there, or a model of the hub as org/name." : ""),
    },
  );
}

const noEntry = (kind: PluginKind, source: string, folder: string): PluginError =>
  new PluginError("PLUGIN_LOAD_FAILED", `--${flagOf(kind)} ${source}: ${folder} has no entry file`, {
    hint: `Name it in ${join(folder, "package.json")} as "exports", and build the package where its source is built.`,
  });

/** Refuses a package that says itself that it is made for another qlora, before any of its code runs. */
function checkPackage(kind: PluginKind, spec: string, path: string): void {
  const manifest = manifestOf(path);
  const problem = peerProblem(manifest?.peerDependencies?.["qlora"]);
  if (problem === undefined) return;
  const title = `package ${manifest?.name ?? path} ${manifest?.version ?? ""}`.trim();
  throw new PluginError("PLUGIN_VERSION", `--${flagOf(kind)} ${spec}: ${title} ${problem}`, { hint: OTHER_RELEASE });
}

async function load(kind: PluginKind, spec: string, path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    const reason = loadReason(cause, path);
    const missing = /Cannot find (?:package|module) ['"]qlora(?:\/\w+)?['"]/.test(reason);
    throw new PluginError("PLUGIN_LOAD_FAILED", `--${flagOf(kind)} ${spec}: ${path} does not load: ${reason}`, {
      cause,
      ...(missing
        ? { hint: `Install qlora where the plugin can see it: bun add qlora in ${dirname(path)} or above.` }
        : {}),
    });
  }
}

function pick(
  kind: PluginKind,
  spec: string,
  path: string,
  module: Readonly<Record<string, unknown>>,
  exportName: string | undefined,
): PluginFactory {
  const names = Object.keys(module);
  const inConfig = configFactories(module["default"]);
  const named = [module[exportName ?? ""], ...inConfig.filter(({ name }) => name === exportName)];
  const candidates = exportName === undefined ? [...names.map((name) => module[name]), ...inConfig] : named;
  const chosen = [...new Set(candidates)].filter((value) => isPluginFactory(value, kind));
  const [only] = chosen;
  if (chosen.length === 1 && only !== undefined) return only;
  const which = names.map((name) => `${name} (${whatIs(module[name])})`).join(", ") || "nothing";
  const near = exportName === undefined ? undefined : nearestName(exportName, names);
  const expected =
    chosen.length > 1
      ? `expected one ${kind}; pick one with ${spec}#NAME`
      : `expected ${exportName === undefined ? "an export" : `the export ${exportName}`} made with ${maker(kind)}` +
        (near === undefined ? "" : `; did you mean "${near}"?`);
  throw new PluginError("PLUGIN_EXPORT", `--${flagOf(kind)} ${spec}: ${path} exports ${which}; ${expected}`, {
    hint: `Export ${article(kind)}: export const name = ${maker(kind)}({ name, options, create }).`,
  });
}

const whatIs = (value: unknown): string => (isPluginFactory(value) ? article(value.kind) : typeof value);
