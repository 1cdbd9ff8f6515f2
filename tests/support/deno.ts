/** Deno, from PATH or from where `npm test` puts it. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const modules = join(import.meta.dir, "../../.tools/deno/node_modules");

/** The platform packages of the npm package `deno`, whose own script only starts what lies there. */
function installed(): readonly string[] {
  const platforms = join(modules, "@deno");
  return existsSync(platforms) ? readdirSync(platforms).map((name) => join(platforms, name, "deno")) : [];
}

/** Path of a Deno >= 2; undefined, said loudly, where there is none. */
export function findDeno(): string | undefined {
  const candidates = [Bun.which("deno"), ...installed()].filter((path) => path !== null && existsSync(path));
  const found = candidates.find((path) =>
    /^deno ([2-9]|\d\d)/.test(Bun.spawnSync([path!, "--version"]).stdout.toString()),
  );
  if (found === undefined) console.error("SKIPPED: no Deno >= 2 for what runs there; `npm test` fetches it");
  return found ?? undefined;
}
