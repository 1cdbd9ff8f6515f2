/** What a reporter gets of the machine: requests to its server, the environment, a folder for its files. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { PluginError } from "../../core/errors.ts";
import type { ReporterAnswer, ReporterContext, ReporterRequest } from "../../core/plugin/reporter.ts";
import { version } from "../../core/util/version.ts";
import { type DiskFile, makeFolder, openToWrite } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { ownDotEnvNames } from "../hub/dotenv.ts";
import { isBusy } from "../hub/http.ts";
import { hostOf } from "../hub/url.ts";
import { Secrets } from "./secrets.ts";

const ATTEMPTS = 3;
const LONGEST_DELAY = 5000;
/** Characters of an answer that a message repeats. */
const EXCERPT = 200;

/** How long a server may take; tests are in a hurry. */
export interface Patience {
  /** Milliseconds for one answer. */
  readonly timeout: number;
  /** Milliseconds before the second attempt; doubled for the third. */
  readonly retryDelay: number;
}

export const PATIENCE: Patience = { timeout: 10_000, retryDelay: 500 };

type Variables = Readonly<Record<string, string | undefined>>;

/** What a context is made from. */
export interface ContextOptions {
  /** Name of the reporter, for messages. */
  readonly name: string;
  /** Folder of its files. */
  readonly folder: string;
  readonly patience?: Patience | undefined;
  readonly env?: Variables | undefined;
  /** Variables that a .env file of the working folder set, with the file. */
  readonly dotEnv?: ReadonlyMap<string, string> | undefined;
}

/** Variables that decide where a request ends up, or who can read it on the way. */
const DIVERTING = /(?:_URL|_URI|_SPACE_ID|_PROXY|_CERTS?|_CERT_FILE|_CERT_DIR)$|^NODE_TLS/i;

/** A context, and what its maker keeps of it. */
interface MadeContext {
  readonly context: ReporterContext;
  /** Those that it has given out. */
  readonly secrets: Secrets;
  /** Closes what a reporter that failed left open. */
  readonly closeFiles: () => Promise<void>;
}

/** The context of one reporter. */
export function reporterContext({
  name,
  folder,
  patience = PATIENCE,
  env = process.env,
  dotEnv = env === process.env ? ownDotEnvNames() : new Map(),
}: ContextOptions): MadeContext {
  const secrets = new Secrets();
  const open = new Set<DiskFile>();
  const context: ReporterContext = {
    request: (url, request) => ask(name, secrets, patience, url, request),
    env: (key) => env[key] || undefined,
    secret(key) {
      const value = env[key]?.trim();
      if (!value) return undefined;
      secrets.add(value);
      const diverted = [...dotEnv.keys()].find((other) => env[other] && DIVERTING.test(other));
      if (diverted === undefined || dotEnv.has(key)) return value;
      throw new PluginError(
        "REPORTER_DIVERTED",
        `reporter ${name}: ${diverted} comes from ${dotEnv.get(diverted)} of this folder, so ${key} is not sent there`,
        { hint: `Set ${diverted} in the environment to send it.` },
      );
    },
    files: async () => (existsSync(folder) ? readdir(folder) : []),
    async createFile(fileName) {
      const path = join(folder, fileName);
      const file = await explainWriteErrors(path, async () => {
        await makeFolder(folder);
        return openToWrite(path, "wx");
      });
      open.add(file);
      return {
        path,
        append: (bytes) => explainWriteErrors(path, () => file.write(bytes)),
        async close() {
          open.delete(file);
          await file.close();
        },
      };
    },
    processName: `${hostname()}.${process.pid}`,
    now: () => Date.now() / 1000,
  };
  const closeFiles = async (): Promise<void> => {
    for (const file of open) await file.close();
    open.clear();
  };
  return { context, secrets, closeFiles };
}

async function ask(
  name: string,
  secrets: Secrets,
  { timeout, retryDelay }: Patience,
  url: string,
  { method, headers, json, body, expect = [] }: ReporterRequest = {},
): Promise<ReporterAnswer> {
  const content = json === undefined ? body : formatJson(json);
  const verb = method ?? (content === undefined ? "GET" : "POST");
  const host = URL.canParse(url) ? hostOf(url) : JSON.stringify(url);
  const fail = (problem: string, cause?: unknown): PluginError =>
    new PluginError("REPORTER_FAILED", `reporter ${name}: ${host} ${problem}`, { cause });
  // A server may repeat what it was sent, in the form it was sent in.
  for (const [key, value] of Object.entries(headers ?? {}))
    if (/^(proxy-)?authorization$/i.test(key)) secrets.add(value.replace(/^\w+ /, ""));
  const excerpt = (text: string): string => secrets.strike(text).slice(0, EXCERPT);
  for (let attempt = 1; ; attempt++) {
    const last = attempt === ATTEMPTS;
    let answer: { readonly status: number; readonly text: string; readonly location: string | null };
    try {
      const response = await fetch(url, {
        method: verb,
        headers: {
          "user-agent": `qlora/${version}`,
          ...(json === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(content === undefined ? {} : { body: content }),
        redirect: "manual",
        signal: AbortSignal.timeout(timeout),
      });
      const { status } = response;
      answer = { status, text: await response.text(), location: response.headers.get("location") };
    } catch (error) {
      // No cause: what failed may name the address, and with it a signature.
      if (last) throw fail(`cannot be reached (${reasonOf(error)})`);
      await wait(Math.min(LONGEST_DELAY, retryDelay * 2 ** (attempt - 1)));
      continue;
    }
    const { status, text, location } = answer;
    if (isBusy(status) && !last) {
      await wait(Math.min(LONGEST_DELAY, retryDelay * 2 ** (attempt - 1)));
      continue;
    }
    const path = new URL(url).pathname;
    if (status >= 300 && status < 400) {
      const to = location === null ? "elsewhere" : `to ${new URL(location, url).origin}`;
      throw fail(`redirects ${verb} ${path} ${to}, where no key is sent; give that address`);
    }
    if (status >= 400 && !expect.includes(status))
      throw fail(`answered ${status} to ${verb} ${path}${text === "" ? "" : `: ${excerpt(text)}`}`);
    return {
      status,
      text,
      json() {
        try {
          return JSON.parse(text) as unknown;
        } catch (cause) {
          throw fail(`answered ${verb} ${path} with no JSON: ${excerpt(text)}`, cause);
        }
      },
    };
  }
}

/** JSON as Python's clients of trackers write it: numbers that are not finite as words. */
const formatJson = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) =>
    typeof part === "number" && !Number.isFinite(part) ? String(part) : part,
  );

/** Short words for a failed request: a code such as ECONNREFUSED where there is one. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "no answer";
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code === "string" && code !== "") return code;
  return error.name === "TimeoutError" || error.name === "AbortError" ? "no answer in time" : error.name;
}
