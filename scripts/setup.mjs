// Sets up a checkout: Bun, the packages of the lockfile, and a Vulkan driver where no GPU answers.
// Runs under Node 20 without dependencies, as often as wanted; says nothing where nothing is to do.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { installSoftwareVulkan } from "./vulkan-driver.mjs";

const BUN_WANTED = [1, 4];
const BUN_INSTALLED = "bun@^1.4.5";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tools = join(root, ".tools");

/** A failure that one sentence explains; no stack is shown. */
class SetupError extends Error {}

/** Runs a command; its output is shown only where it fails. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8", ...options });
  if (result.status === 0) return result.stdout;
  const why = result.error?.message ?? `${result.stdout}${result.stderr}`.trim();
  throw new SetupError(`${command} ${args.join(" ")} failed:\n${why}`);
}

/** True where `bun` starts and is new enough. */
function bunWorks(bun) {
  const { status, stdout } = spawnSync(bun, ["--version"], { encoding: "utf8" });
  if (status !== 0) return false;
  const [major = 0, minor = 0] = stdout.trim().split(".").map(Number);
  return major > BUN_WANTED[0] || (major === BUN_WANTED[0] && minor >= BUN_WANTED[1]);
}

/** Where Bun may lie: on PATH, or where npm put it. npm that runs no install scripts leaves it in its platform package. */
function bunCandidates() {
  const modules = join(tools, "node_modules");
  const platforms = join(modules, "@oven");
  const perPlatform = existsSync(platforms) ? readdirSync(platforms) : [];
  const onPath = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "bun"));
  return [...onPath, join(modules, ".bin", "bun"), ...perPlatform.map((name) => join(platforms, name, "bin", "bun"))];
}

const findBun = () => bunCandidates().find((bun) => existsSync(bun) && bunWorks(bun));

function ensureBun() {
  const found = findBun();
  if (found !== undefined) return found;
  console.log(`setup: installing ${BUN_INSTALLED} into .tools/`);
  mkdirSync(tools, { recursive: true });
  writeFileSync(join(tools, "package.json"), '{ "private": true }\n'); // npm stays in this folder
  run("npm", ["install", "--prefix", tools, "--no-audit", "--no-fund", "--loglevel=error", BUN_INSTALLED], {
    cwd: tools,
  });
  const installer = join(tools, "node_modules", "bun", "install.js");
  const installed = findBun();
  if (installed !== undefined) return installed;
  if (existsSync(installer)) run(process.execPath, [installer], { cwd: dirname(installer) });
  const repaired = findBun();
  if (repaired !== undefined) return repaired;
  throw new SetupError(`npm installed ${BUN_INSTALLED}, but no bun under .tools/ starts: install Bun >= 1.4 by hand.`);
}

function ensurePackages(bun, env) {
  if (!existsSync(join(root, "node_modules"))) console.log("setup: installing packages from bun.lock");
  run(bun, ["install", "--frozen-lockfile"], { env });
}

function ensureVulkan(bun, env) {
  const probe = () => spawnSync(bun, ["scripts/probe-vulkan.ts"], { cwd: root, env, encoding: "utf8" });
  if (process.platform !== "linux" || probe().status === 0) return;
  const problem = installSoftwareVulkan();
  if (problem !== undefined) throw new SetupError(problem);
  const again = probe();
  if (again.status !== 0)
    throw new SetupError(`the Vulkan driver that was installed does not answer:\n${again.stderr}`);
}

/** The environment of everything that runs here: Bun on PATH, and a runtime folder, without which drivers complain. */
function childEnvironment(bun) {
  const env = { ...process.env, PATH: `${dirname(bun)}${delimiter}${process.env.PATH ?? ""}` };
  if (!env.XDG_RUNTIME_DIR) {
    env.XDG_RUNTIME_DIR = join(tmpdir(), `qlora-runtime-${process.getuid?.() ?? 0}`);
    mkdirSync(env.XDG_RUNTIME_DIR, { recursive: true, mode: 0o700 });
  }
  return env;
}

/** Sets up, or ends the process with one clear sentence. Returns Bun's path, the children's environment and the root. */
export function setUp() {
  try {
    const bun = ensureBun();
    const env = childEnvironment(bun);
    ensurePackages(bun, env);
    ensureVulkan(bun, env);
    return { bun, env, root };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`setup: ${error.message}`);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setUp();
