/** Plugins that a run's record names: a folder from anywhere must not choose code of its own that runs here. */
import { existsSync, realpathSync } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { PluginError } from "../../core/errors.ts";
import { formatValue } from "../../core/options/describe.ts";
import type { PluginKind } from "../../core/plugin/check.ts";
import { article, type PluginFactory } from "../../core/plugin/factory.ts";
import { findPackage, packageNames, resolvePackage } from "./package.ts";
import { isFileSpec, loadedBy, resolvePlugin, type ResolveContext } from "./resolve.ts";

/** How a record names a plugin; it is JSON of anybody's, so nothing is known of it. */
interface Named {
  readonly name?: unknown;
  readonly from?: unknown;
}

/** Whose record it is, and whether its user trusts it. */
export interface RecordedContext extends ResolveContext {
  /** The run's folder, one of its checkpoints, or an adapter's. */
  readonly run: string;
  /** Run whatever code the record names. */
  readonly trust: boolean;
}

/** A package's name as npm has it, and the export that is meant: no path, no URL, nothing that climbs. */
const PACKAGE = /^(@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*(#[\w$-]+)?$/i;

/**
 * The factory of a plugin that a run's record names: one that ships, an installed package by its name, or what this process has
 * loaded from the same place already. Any other code needs `trust`.
 * @throws PluginError saying which file would run
 */
export async function resolveRecorded<K extends PluginKind>(
  kind: K,
  named: Named,
  context: RecordedContext,
): Promise<PluginFactory<K>> {
  return resolvePlugin(kind, checkRecorded(kind, named, context), context);
}

/** What finds such a plugin, once its code may run; loads nothing. @throws PluginError as `resolveRecorded` */
export function checkRecorded(kind: PluginKind, { name, from }: Named, context: RecordedContext): string {
  const spec: unknown = from ?? name;
  const key = kind === "metric" ? "metrics" : kind;
  if (typeof spec !== "string" || spec === "") {
    throw new PluginError(
      "PLUGIN_RECORD",
      `run.json of ${context.run}: config.${key}: got ${formatValue(spec)}, expected the name of ${article(kind)}`,
      { hint: "Restore the file; or move it away, and give the files and --base-model." },
    );
  }
  const ships = context.shipped.some((factory) => factory.name === spec);
  if (!ships && !context.trust && loadedBy(spec) === undefined) {
    const file = strangeFile(spec, context);
    if (file !== undefined) throw untrusted(kind, key, spec, file, context.run);
  }
  return spec;
}

/** The file of code that is not the user's own, where `spec` leads to one. */
function strangeFile(spec: string, { from, run }: RecordedContext): string | undefined {
  const [source = ""] = spec.split("#");
  if (isFileSpec(source)) return real(source.startsWith("file:") ? pathOf(source) : resolve(from, source));
  if (!PACKAGE.test(spec)) return source;
  for (const name of packageNames(source)) {
    const folder = findPackage(name, from);
    if (folder === undefined) continue;
    // A package's folder, or the entry that its manifest names, may be a link into the run's folder.
    const places = [folder, entry(name, from) ?? folder].map(real);
    const inside = places.find((place) => runFolders(run).some((root) => isInside(place, root)));
    return inside === undefined ? undefined : places[1];
  }
  return undefined;
}

function entry(name: string, from: string): string | undefined {
  return resolvePackage(name, from); // resolvePlugin tells why there is none
}

/** A URL of a file as a path; as it is written where it names a host, say. */
function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    return url;
  }
}

/** Where a path leads once links are followed; the path itself where nothing is there. */
const real = (path: string): string => (existsSync(path) ? realpathSync(path) : path);

/** The folder that holds run.json, which a checkpoint has above it. */
function runFolders(run: string): readonly string[] {
  const folder = resolve(run);
  return existsSync(join(folder, "run.json")) ? [real(folder)] : [real(folder), real(dirname(folder))];
}

const isInside = (place: string, folder: string): boolean =>
  place === folder || place.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`);

function untrusted(kind: PluginKind, key: string, spec: string, file: string, run: string): PluginError {
  return new PluginError(
    "PLUGIN_UNTRUSTED",
    `run.json of ${run}: config.${key}: ${JSON.stringify(spec)} would run the file ${file}; expected ${article(kind)} that ships, or an installed package by its name`,
    {
      hint: `Read ${file}; where you trust it, give --trust-remote-code (trustRemoteCode: true), which runs it.`,
    },
  );
}
