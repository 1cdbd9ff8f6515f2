/**
 * Which environment variables come from a .env file of the working folder: Bun puts those into process.env, and a folder that
 * somebody else made must not say where a stored token goes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { hostName } from "../host.ts";

type Variables = Readonly<Record<string, string | undefined>>;

/** What a process was started with, where the system tells; what a shell or a parent set is in it, what Bun read is not. */
function startedWith(): ReadonlySet<string> | undefined {
  if (process.platform !== "linux") return undefined;
  const text = readText("/proc/self/environ");
  return text === undefined ? undefined : new Set(text.split("\0").map((entry) => entry.slice(0, entry.indexOf("="))));
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (["ENOENT", "EACCES", "EISDIR", "ENOTDIR", "EPERM"].includes(code)) return undefined; // Bun did not read it either
    throw error;
  }
}

/**
 * Names of variables that a .env file of `folder` set, with the file. Where the system does not tell what the process was
 * started with, a variable that a file sets counts as the file's.
 * @param started names that the process was started with
 */
export function dotEnvNames(
  env: Variables,
  folder: string,
  started: ReadonlySet<string> | undefined = startedWith(),
): ReadonlyMap<string, string> {
  const mode = env["NODE_ENV"] || "development";
  const found = new Map<string, string>();
  for (const file of [".env", `.env.${mode}`, ".env.local", `.env.${mode}.local`]) {
    for (const line of (readText(join(folder, file)) ?? "").split(/\r\n|\n|\r/)) {
      const name = /^\s*(?:export\s+)?([\w.-]+)\s*[=:]/.exec(line)?.[1];
      if (name !== undefined && env[name] !== undefined && started?.has(name) !== true) found.set(name, file);
    }
  }
  return found;
}

/** The same of this process; none where Bun was told to read no such file. */
export function ownDotEnvNames(): ReadonlyMap<string, string> {
  if (hostName !== "bun") return new Map(); // Node and Deno read no .env unasked
  return process.execArgv.includes("--no-env-file") ? new Map() : dotEnvNames(process.env, process.cwd());
}
