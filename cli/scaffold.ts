/** Plugin packages from the templates: real files, in which the placeholders' names are replaced. */
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { ConfigError } from "../core/errors.ts";
import type { PluginKind } from "../core/plugin/check.ts";
import manifest from "../package.json" with { type: "json" };
import { PLUGIN_PREFIX, readManifest } from "../runtime/config/package.ts";
import { writeFileAtomic, writeFolderAtomic } from "../runtime/files/files.ts";

const TEMPLATES = join(import.meta.dir, "../templates");

/** The names that a plugin goes by. */
export interface PluginNames {
  /** On the command line: `adan`, `@me/adan`. */
  readonly cli: string;
  /** In npm: `qlora-plugin-adan`, `@me/qlora-plugin-adan`. */
  readonly package: string;
  /** In configs and records: `adan`. */
  readonly plugin: string;
  /** In code: `adan`, `fastAdan`. */
  readonly identifier: string;
}

/** @throws ConfigError for a name that npm or TypeScript would refuse, or that a shipped plugin has */
export function pluginNames(name: string, shipped: readonly string[]): PluginNames {
  const [, scope = "", bare = ""] = /^(@[a-z0-9][a-z0-9._-]*\/)?(.*)$/.exec(name) ?? [];
  const plugin = bare.replace(PLUGIN_PREFIX, "");
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(plugin)) {
    throw new ConfigError(
      "USAGE",
      `NAME: got ${JSON.stringify(name)}, expected lower-case words joined by dashes, such as adan or @me/fast-adan`,
    );
  }
  const identifier = plugin.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  if (shipped.includes(plugin) || RESERVED.has(identifier)) {
    const why = shipped.includes(plugin) ? "a plugin of this name ships with qlora" : "it is a word of TypeScript";
    throw new ConfigError("USAGE", `NAME: got ${plugin}, but ${why}; expected another name`);
  }
  return { cli: `${scope}${plugin}`, package: `${scope}${PLUGIN_PREFIX}${plugin}`, plugin, identifier };
}

const RESERVED = new Set(
  (
    "await break case catch class const continue debugger default delete do else enum export extends false finally for " +
    "function if implements import in instanceof interface let new null package private protected public return static " +
    "super switch this throw true try typeof var void while with yield code options option name run test expect"
  ).split(" "),
);

/** Text of a template with the placeholders' names replaced. */
function filled(text: string, names: PluginNames): string {
  return text
    .replaceAll("package-name", names.package)
    .replaceAll("cli-name", names.cli)
    .replaceAll("my-plugin", names.plugin)
    .replaceAll("my_plugin", names.plugin.replaceAll("-", "_"))
    .replaceAll("MY_PLUGIN", names.plugin.replaceAll("-", "_").toUpperCase())
    .replaceAll("myPlugin", names.identifier);
}

/**
 * How the packages of the folder around `folder` name qlora where that is a path, a tarball or a repository: the new package must
 * name it too, for no registry has it.
 */
export function unpublishedQlora(folder: string): string | undefined {
  for (let at = dirname(folder); ; at = dirname(at)) {
    const { dependencies, devDependencies } = readManifest(at) ?? {};
    const spec = dependencies?.["qlora"] ?? devDependencies?.["qlora"];
    if (spec !== undefined) {
      const path = spec.replace(/^file:/, "");
      if (path.startsWith(".")) return `file:${relative(folder, join(at, path))}`;
      return /^(?:file:|\/|https?:|git|link:)/.test(spec) ? spec : undefined;
    }
    if (dirname(at) === at) return undefined;
  }
}

/** package.json of the new package. */
function manifestText(kind: PluginKind, names: PluginNames, folder: string): string {
  const qlora = unpublishedQlora(folder);
  const versions = { ...manifest.dependencies, ...manifest.devDependencies };
  const dev = ["@types/bun", "@webgpu/types", "typescript"] as const;
  const json = {
    name: names.package,
    version: "0.1.0",
    description: `${kind[0]!.toUpperCase()}${kind.slice(1)} ${names.plugin} for qlora`,
    keywords: ["qlora-plugin", `qlora-${kind}`],
    type: "module",
    exports: "./src/index.ts",
    files: ["src"],
    scripts: { test: "bun test", types: "tsc -p ." },
    peerDependencies: { qlora: `^${manifest.version}` },
    devDependencies: {
      ...(qlora === undefined ? {} : { qlora }),
      ...Object.fromEntries(dev.map((name) => [name, versions[name]])),
    },
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

/**
 * Writes the package into `folder`, which must not exist.
 * @returns its files, relative to the folder
 * @throws ConfigError where the folder exists; QloraError where it cannot be written
 */
export async function writePluginPackage(kind: PluginKind, names: PluginNames, folder: string): Promise<string[]> {
  const files = new Map<string, string>([["package.json", manifestText(kind, names, folder)]]);
  files.set("tsconfig.json", await readFile(join(TEMPLATES, "tsconfig.json"), "utf8"));
  files.set(".gitignore", await readFile(join(TEMPLATES, "gitignore"), "utf8"));
  const template = join(TEMPLATES, kind);
  for (const entry of await readdir(template, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files.set(path.slice(template.length + 1), filled(await readFile(path, "utf8"), names));
  }
  await writeFolderAtomic(folder, async (to) => {
    for (const [name, text] of files) await writeFileAtomic(join(to, name), text);
  });
  return [...files.keys()].sort();
}
