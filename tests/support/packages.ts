/** Packages of the checkout that a machine may lack: what needs one is skipped there, said loudly, once for each. */
import { existsSync } from "node:fs";
import { join } from "node:path";

const modules = join(import.meta.dir, "../../node_modules");
const told = new Set<string>();

/** Folder of an installed package; undefined, said loudly, where it is not installed. */
export function packageFolder(name: string, what: string): string | undefined {
  const folder = join(modules, name);
  if (existsSync(join(folder, "package.json"))) return folder;
  if (!told.has(name)) console.error(`SKIPPED: no package ${name} for ${what}; install it (bun install)`);
  told.add(name);
  return undefined;
}

/** The TypeScript compiler's script; undefined, said loudly, where it is not installed. */
export function typescriptCompiler(): string | undefined {
  const folder = packageFolder("typescript", "typechecks");
  return folder === undefined ? undefined : join(folder, "bin", "tsc");
}
