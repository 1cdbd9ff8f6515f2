/** The hub's settings, from the environment variables that Python's huggingface_hub reads. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { ownDotEnvNames } from "./dotenv.ts";
import { publicUrl } from "./url.ts";

/** Where the hub is, who asks, and where its files are kept. */
export interface HubEnvironment {
  /** Address of the hub or of a mirror, without a slash at its end. */
  readonly endpoint: string;
  /** Sent to `endpoint` alone; never printed, never stored. */
  readonly token: string | undefined;
  /** Cache shared with huggingface_hub: `models--org--name/{blobs,refs,snapshots}`. */
  readonly cacheDir: string;
  /** Ask nothing of the network. */
  readonly offline: boolean;
  /** Longest wait for an answer, in milliseconds. */
  readonly answerTimeout: number;
  /** Longest wait for the next bytes of a file, in milliseconds. */
  readonly stallTimeout: number;
  /** Wait before the first retry, in milliseconds; doubled for each further one. */
  readonly retryDelay: number;
  /** What a .env file of the working folder changed of this, and what follows; to be told. */
  readonly notes?: readonly string[];
}

type Variables = Readonly<Record<string, string | undefined>>;

/** Variables that decide where a request ends up, or who can read it on the way. */
const DIVERTING = [
  "HF_ENDPOINT",
  ...["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
  "NODE_TLS_REJECT_UNAUTHORIZED",
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
];
const TOKENS = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/**
 * The settings of `env`; an empty variable is as good as none. A token that lies in a file or in the real environment is not sent
 * where a .env file of the working folder directs: that takes a token from the same file.
 * @param dotEnv names of variables that a .env file set, with the file
 */
export function hubEnvironment(
  env: Variables = process.env,
  dotEnv: ReadonlyMap<string, string> = env === process.env ? ownDotEnvNames() : new Map(),
): HubEnvironment {
  const endpoint = (env["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, "");
  const settings = { ...settingsOf(env), endpoint };
  const diverting = DIVERTING.filter((name) => env[name] && dotEnv.has(name));
  const notes = diverting.map((name) => {
    const value = name === "HF_ENDPOINT" && URL.canParse(endpoint) ? ` ${publicUrl(endpoint)}` : "";
    return `${name}${value} comes from ${dotEnv.get(name)} of this folder`;
  });
  if (diverting.length === 0) return settings;
  const stored = !TOKENS.some((name) => env[name]?.trim() && dotEnv.has(name));
  const withheld = stored && settings.token !== undefined;
  const told = withheld
    ? "your token is not sent there; set the variable in the environment to send it"
    : "requests to the hub go by it";
  return { ...settings, token: stored ? undefined : settings.token, notes: [`${notes.join(", ")}: ${told}`] };
}

function settingsOf(env: Variables): Omit<HubEnvironment, "endpoint"> {
  const home = env["HF_HOME"] || join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "huggingface");
  return {
    token: readToken(env, home),
    cacheDir: env["HF_HUB_CACHE"] || env["HUGGINGFACE_HUB_CACHE"] || join(home, "hub"),
    offline: isOn(env["HF_HUB_OFFLINE"]) || isOn(env["TRANSFORMERS_OFFLINE"]),
    answerTimeout: milliseconds(env["HF_HUB_ETAG_TIMEOUT"], 10),
    stallTimeout: milliseconds(env["HF_HUB_DOWNLOAD_TIMEOUT"], 10),
    retryDelay: 500,
  };
}

/** The token of the environment, else the one that `hf auth login` left in a file. */
function readToken(env: Variables, home: string): string | undefined {
  const given = (env["HF_TOKEN"] || env["HUGGING_FACE_HUB_TOKEN"])?.trim();
  if (given) return given;
  try {
    return readFileSync(env["HF_TOKEN_PATH"] || join(home, "token"), "utf8").trim() || undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined; // nobody has logged in
    throw error;
  }
}

/** @throws ConfigError where the endpoint is no address */
export function checkEndpoint({ endpoint }: HubEnvironment): void {
  if (URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol)) return;
  throw new ConfigError(
    "HUB_ENDPOINT_INVALID",
    `HF_ENDPOINT: got ${JSON.stringify(endpoint)}, expected an address such as https://huggingface.co`,
  );
}

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? "");

const milliseconds = (seconds: string | undefined, fallback: number): number => 1000 * (Number(seconds) || fallback);
