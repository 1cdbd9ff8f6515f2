/** Finds the plugin that a command line names: a shipped one, an npm package, or a file. */
import { isAbsolute, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { PluginError } from "./errors.ts";
import { isPluginFactory, type PluginFactory, type PluginKind } from "./plugin-value.ts";
import { suggestion } from "./suggest.ts";

export interface ResolveContext {
  /** The plugins that ship with qlora. */
  readonly shipped: readonly PluginFactory[];
  /** Folder that files and packages are looked up from. */
  readonly from: string;
}

const article = (kind: PluginKind): string => (/^[aeiou]/.test(kind) ? `an ${kind}` : `a ${kind}`);
const maker = (kind: PluginKind): string => `define${kind[0]!.toUpperCase()}${kind.slice(1)}`;
const isFile = (spec: string): boolean => /^(\.{1,2}[\\/]|file:)/.test(spec) || isAbsolute(spec);

/** Package names that a bare word may mean, the likeliest first. */
const packageNames = (spec: string): readonly string[] =>
  spec.startsWith("@") || spec.startsWith("qlora-plugin-") ? [spec] : [`qlora-plugin-${spec}`, spec];

/**
 * The factory that `spec` names: `lora`, `qlora-plugin-dora`, `@me/dora` or `./dora.ts`; `#name` picks one of several
 * exports.
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
      `--${kind} ${spec}: ${spec} is ${article(known.kind)}, expected ${article(kind)}`,
      {
        hint: `Give it as --${known.kind} ${spec}.`,
      },
    );
  }
  const [source = "", exportName] = spec.split("#");
  const path = isFile(source) ? filePath(source, from) : packagePath(kind, source, { shipped, from });
  const module = await load(kind, spec, path);
  return pick(kind, spec, path, module, exportName) as PluginFactory<K>;
}

function filePath(source: string, from: string): string {
  return source.startsWith("file:") ? source : pathToFileURL(resolve(from, source)).href;
}

function packagePath(kind: PluginKind, source: string, { shipped, from }: ResolveContext): string {
  const candidates = packageNames(source);
  for (const name of candidates) {
    try {
      return pathToFileURL(Bun.resolveSync(name, from)).href;
    } catch {
      continue; // not installed under this name: the next one may be
    }
  }
  const names = shipped.filter((factory) => factory.kind === kind).map((factory) => factory.name);
  throw new PluginError(
    "PLUGIN_NOT_FOUND",
    `--${kind} ${source}: no shipped ${kind} has this name and no package ${candidates.join(" or ")} is installed` +
      suggestion(source, names),
    { hint: `Install the package (bun add ${candidates[0]}), or write ./${source}.ts for a file.` },
  );
}

async function load(kind: PluginKind, spec: string, path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(path)) as Readonly<Record<string, unknown>>;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new PluginError("PLUGIN_LOAD_FAILED", `--${kind} ${spec}: ${path} does not load: ${reason}`, { cause });
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
  const found = [...new Set(names.map((name) => module[name]).filter((value) => isPluginFactory(value, kind)))];
  const chosen =
    exportName === undefined ? found : [module[exportName]].filter((value) => isPluginFactory(value, kind));
  const [only] = chosen;
  if (chosen.length === 1 && only !== undefined) return only;
  const which = names.map((name) => `${name} (${whatIs(module[name])})`).join(", ") || "nothing";
  const expected =
    chosen.length > 1
      ? `expected one ${kind}; pick one with ${spec}#NAME`
      : `expected ${exportName === undefined ? "an export" : `the export ${exportName}`} made with ${maker(kind)}`;
  throw new PluginError("PLUGIN_EXPORT", `--${kind} ${spec}: ${path} exports ${which}; ${expected}`, {
    hint: `Export ${article(kind)}: export const name = ${maker(kind)}({ name, options, create }).`,
  });
}

const whatIs = (value: unknown): string => (isPluginFactory(value) ? article(value.kind) : typeof value);
