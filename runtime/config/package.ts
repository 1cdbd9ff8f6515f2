/** Where plugin packages lie: folders with a package.json, in node_modules of a folder or of those above it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { isFolder } from "../files/stat.ts";
import { hostName } from "../host.ts";

export const PLUGIN_PREFIX = "qlora-plugin-";

/** What of a package.json matters here. */
export interface PackageManifest {
  readonly name?: string;
  readonly version?: string;
  readonly main?: string;
  readonly module?: string;
  readonly exports?: unknown;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/**
 * Package names that a word may mean, the likeliest first: `foo` is `qlora-plugin-foo` or `foo`, `@me/foo` is itself or
 * `@me/qlora-plugin-foo`.
 */
export function packageNames(spec: string): readonly string[] {
  const [, scope = "", name = spec] = /^(@[^/]+\/)(.+)$/.exec(spec) ?? [];
  if (name.startsWith(PLUGIN_PREFIX)) return [spec];
  const prefixed = `${scope}${PLUGIN_PREFIX}${name}`;
  return scope === "" ? [prefixed, spec] : [spec, prefixed];
}

/** Folders called node_modules that `from` sees, the nearest first. */
function modulesFolders(from: string): readonly string[] {
  const folders: string[] = [];
  for (let at = resolve(from); ; at = dirname(at)) {
    folders.push(join(at, "node_modules"));
    if (dirname(at) === at) return folders.filter((folder) => existsSync(folder));
  }
}

/** The folder of an installed package; undefined where there is none. */
export function findPackage(name: string, from: string): string | undefined {
  const places = modulesFolders(from).map((folder) => join(folder, name));
  return places.find((place) => existsSync(join(place, "package.json")));
}

/** Packages called qlora-plugin-*, with or without a scope, that `from` sees. */
export function installedPlugins(from: string): readonly string[] {
  const found = modulesFolders(from).flatMap((folder) => {
    const names = readdirSync(folder);
    const scoped = names
      .filter((name) => name.startsWith("@"))
      .flatMap((scope) => readdirSync(join(folder, scope)).map((name) => `${scope}/${name}`));
    return [...names, ...scoped].filter((name) => name.split("/").at(-1)!.startsWith(PLUGIN_PREFIX));
  });
  return [...new Set(found)];
}

/** package.json of a folder; undefined where there is none. */
export function readManifest(folder: string): PackageManifest | undefined {
  const path = join(folder, "package.json");
  if (!existsSync(path)) return undefined;
  return parseJsonObject(readFileSync(path, "utf8"), damaged(path, "Mend the file."));
}

/** The manifest of the package that a file belongs to. */
export function manifestOf(file: string): PackageManifest | undefined {
  for (let at = dirname(file); dirname(at) !== at; at = dirname(at)) {
    const manifest = readManifest(at);
    if (manifest !== undefined) return manifest;
  }
  return undefined;
}

/** The file that a package's folder stands for: `exports["."]`, `module`, `main`, index.ts or index.js. */
export function entryOf(folder: string): string | undefined {
  const manifest = readManifest(folder);
  const candidates = [target(manifest?.exports), manifest?.module, manifest?.main, "index.ts", "index.js"];
  const paths = candidates.filter((name) => name !== undefined).map((name) => join(folder, name));
  return paths.find((path) => existsSync(path) && !isFolder(path));
}

/**
 * The file that `import name` loads in `from`; undefined where no package of the name is there, where it has no such entry, and
 * for a module of the runtime itself, such as node:fs.
 */
export function resolvePackage(name: string, from: string): string | undefined {
  try {
    const path = createRequire(join(resolve(from), "from.js")).resolve(name);
    return isAbsolute(path) ? path : undefined;
  } catch {
    // An entry under the condition `import` alone is none for require.
    const folder = findPackage(name, from);
    const entry = folder === undefined ? undefined : target(readManifest(folder)?.exports);
    const path = entry === undefined ? undefined : join(folder!, entry);
    return path !== undefined && existsSync(path) ? path : undefined;
  }
}

const CONDITIONS = [".", ...(hostName === "bun" ? ["bun"] : []), "import", "module", "node", "default"];

/** What an entry of `exports` leads to under the conditions that this runtime sets. */
function target(exported: unknown): string | undefined {
  if (typeof exported === "string") return exported;
  if (typeof exported !== "object" || exported === null) return undefined;
  for (const [condition, value] of Object.entries(exported)) {
    if (!CONDITIONS.includes(condition)) continue;
    const found = target(value);
    if (found !== undefined) return found;
  }
  return undefined;
}
