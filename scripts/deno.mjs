// Deno, for the tests that run the package there: fetched from npm into .tools/ where PATH has none.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Says what is missing where it cannot fetch it: the tests that need it are then skipped, which they say too. */
export function ensureDeno(root) {
  const folder = join(root, ".tools", "deno");
  if (spawnSync("deno", ["--version"]).status === 0 || existsSync(join(folder, "node_modules", "@deno"))) return;
  console.log("setup: installing Deno into .tools/ for the tests that run the package there");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "deno@^2.9.0"];
  const { status, stdout, stderr, error } = spawnSync("npm", args, { cwd: folder, encoding: "utf8" });
  if (status !== 0) console.error(`setup: Deno could not be installed:\n${error?.message ?? `${stdout}${stderr}`}`);
}
