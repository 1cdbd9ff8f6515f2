/**
 * `bun run docs`: writes docs/api/*.md from the exports, the option tables of docs/shipped-plugins.md and docs/config.schema.json;
 * `--check` says what is out of date.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { COMPATIBILITY, compatibilityPage } from "./compatibility.ts";
import { CONFIG_SCHEMA, configSchema } from "./config-schema.ts";
import { indexMarkdown, moduleMarkdown } from "./markdown.ts";
import { type ApiModule, apiProblems, shortName } from "./model.ts";
import { SHIPPED_PLUGINS, withOptionTables } from "./option-tables.ts";

const root = join(import.meta.dir, "../..");
const generator = join(root, "docs/api-generator");

function run(cwd: string, ...args: readonly string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, ...args], { cwd });
  if (exitCode !== 0) throw new Error(`bun ${args.join(" ")} in ${cwd} failed:\n${stderr.toString()}`);
  return stdout.toString();
}

/** Installs TypeDoc beside the project where it is missing. @throws Error where that fails, e.g. without a network */
export function installTypeDoc(): void {
  if (!existsSync(join(generator, "node_modules/typedoc"))) run(generator, "install", "--frozen-lockfile");
}

/** The exports as TypeDoc sees them. */
export function extractApi(): readonly ApiModule[] {
  return JSON.parse(run(root, join(generator, "extract.mjs"))) as readonly ApiModule[];
}

/** Every generated file by its path from the root. */
export async function renderApi(modules: readonly ApiModule[]): Promise<ReadonlyMap<string, string>> {
  return new Map([
    [SHIPPED_PLUGINS, withOptionTables(await readFile(join(root, SHIPPED_PLUGINS), "utf8"))],
    [CONFIG_SCHEMA, configSchema()],
    [COMPATIBILITY, compatibilityPage()],
    ["docs/api/README.md", indexMarkdown(modules)],
    ...modules.map((module) => [`docs/api/${shortName(module.name)}.md`, moduleMarkdown(module)] as const),
  ]);
}

/** Generated files that are not as they would be written now. */
export async function staleFiles(files: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const stale: string[] = [];
  for (const [path, text] of files) {
    const file = join(root, path);
    if (!existsSync(file) || (await readFile(file, "utf8")) !== text) stale.push(path);
  }
  return stale;
}

if (import.meta.main) {
  installTypeDoc();
  const modules = extractApi();
  const files = await renderApi(modules);
  const problems = [...apiProblems(modules)];
  if (process.argv.includes("--check"))
    problems.push(...(await staleFiles(files)).map((path) => `${path} is out of date; run bun run docs`));
  else for (const [path, text] of files) await writeFileAtomic(join(root, path), text);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
