/** The packed project, installed in an empty folder outside the repository as a registry would install it. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildIfStale } from "../../scripts/build/index.ts";

const root = join(import.meta.dir, "../..");

/** How a command ended. */
export interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command with this Bun on PATH. */
export async function runIn(folder: string, command: readonly string[]): Promise<Ran> {
  const env = { ...process.env, PATH: `${join(process.execPath, "..")}:${process.env["PATH"] ?? ""}` };
  const child = Bun.spawn([...command], { cwd: folder, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [exit, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { exit, stdout, stderr };
}

/** The same; gives stdout. @throws Error where the command fails */
export async function expectRun(folder: string, command: readonly string[]): Promise<string> {
  const { exit, stdout, stderr } = await runIn(folder, command);
  if (exit !== 0) throw new Error(`${command.join(" ")} exited with ${exit}: ${stderr}${stdout}`);
  return stdout;
}

/** An outsider's folder. */
export interface Outside {
  readonly folder: string;
  /** The packed project itself. */
  readonly tarball: string;
  /** Where qlora is installed. */
  readonly installed: string;
  /** Arguments to the installed command line, as `bunx qlora …` runs it. */
  qlora(...args: readonly string[]): Promise<Ran>;
  /** Another copy of qlora below a package, as an installer nests one where versions differ. */
  nestCopy(packageFolder: string): string;
  remove(): void;
}

/** Packs the project and installs it, its dependencies taken from the checkout. */
export async function installPacked(): Promise<Outside> {
  const folder = mkdtempSync(join(tmpdir(), "qlora-pack-"));
  await buildIfStale();
  // What the prepack script would make is there; `bun run package` packs with it.
  await expectRun(root, [process.execPath, "pm", "pack", "--ignore-scripts", "--quiet", "--destination", folder]);
  const modules = join(folder, "node_modules");
  const installed = join(modules, "qlora");
  mkdirSync(installed, { recursive: true });
  const [tarball = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  await expectRun(folder, ["tar", "-xzf", join(folder, tarball), "-C", installed, "--strip-components=1"]);
  mkdirSync(join(modules, ".bin"));
  symlinkSync("../qlora/cli/main.ts", join(modules, ".bin", "qlora"));
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (!name.startsWith(".") && name !== "qlora") symlinkSync(join(root, "node_modules", name), join(modules, name));
  }
  return {
    folder,
    tarball: join(folder, tarball),
    installed,
    qlora: (...args) => runIn(folder, [process.execPath, join(installed, "cli/main.ts"), ...args]),
    nestCopy(packageFolder) {
      const copy = join(packageFolder, "node_modules", "qlora");
      mkdirSync(join(copy, ".."), { recursive: true });
      cpSync(installed, copy, { recursive: true });
      return copy;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Flags of a run of two steps on the bundled checkpoint, on CSV `file`. */
export function tinyRunFlags(outside: Outside, file: string, outputDir: string): readonly string[] {
  const flags = {
    "model.checkpoint": join(outside.installed, "assets/tiny-gemma2-nf4"),
    "adapter.rank": "2",
    "adapter.target-modules": "q_proj,v_proj",
    "train-files": file,
    "n-splits": "4",
    "max-length": "32",
    "max-steps": "2",
    "per-device-train-batch-size": "2",
    "output-dir": outputDir,
    gpu: process.env["QLORA_TEST_GPU"] ?? "auto",
  };
  return Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
}
