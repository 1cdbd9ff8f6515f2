/** The hub's settings, from the environment variables that Python's huggingface_hub reads. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

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
}

type Variables = Readonly<Record<string, string | undefined>>;

/** The settings of `env`; an empty variable is as good as none. */
export function hubEnvironment(env: Variables = process.env): HubEnvironment {
  const home = env["HF_HOME"] || join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "huggingface");
  return {
    endpoint: (env["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, ""),
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

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? "");

const milliseconds = (seconds: string | undefined, fallback: number): number => 1000 * (Number(seconds) || fallback);
