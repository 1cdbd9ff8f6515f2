/** What can go wrong with the hub, one sentence each. No message ever holds the token. */
import { ModelError, QloraError } from "../../core/errors.ts";
import type { HubEnvironment } from "./environment.ts";
import { publicUrl, hostOf } from "./url.ts";

/** What was asked for. */
export interface HubTarget {
  readonly id: string;
  readonly revision: string;
  readonly file?: string;
}

export const UNREACHABLE = "HUB_UNREACHABLE";

/** Why the hub refused, from its status and its error headers. */
export function refusal(hub: HubEnvironment, target: HubTarget, response: Response): ModelError {
  const { id, revision, file } = target;
  const { status, headers } = response;
  const code = headers.get("x-error-code");
  const host = hostOf(hub.endpoint);
  const known = hub.token !== undefined;
  if (code === "GatedRepo") {
    return new ModelError(
      "HUB_GATED",
      `${id} is gated on ${host}: ${known ? "the account of this token has no access to it" : "it is given to accounts that accepted its terms"}`,
      {
        hint: `Accept its terms at ${publicUrl(hub.endpoint)}/${id}, then ${known ? "use a token of that account" : "set HF_TOKEN to a token of that account"}.`,
      },
    );
  }
  if (code === "RevisionNotFound") {
    return new ModelError("HUB_REVISION_NOT_FOUND", `${id} has no revision ${JSON.stringify(revision)} on ${host}`, {
      hint: "Give a branch, a tag or a commit of this model; without one, it is main.",
    });
  }
  if (file !== undefined && status === 404) {
    return new ModelError("HUB_FILE_NOT_FOUND", `${id} has no file ${file} at ${revision} on ${host}`, {
      hint: "Its files have changed meanwhile, or the mirror lacks some; try again or use another HF_ENDPOINT.",
    });
  }
  if (status === 404 || (status === 401 && (code === "RepoNotFound" || !known))) {
    return new ModelError(
      "HUB_NOT_FOUND",
      `${host} knows no ${id.startsWith("datasets/") ? "dataset" : "model"} ${id.replace(/^datasets\//, "")}, or it is private`,
      {
        hint: `Check its spelling, set HF_TOKEN for a private model, or write ./${id} for a folder.`,
      },
    );
  }
  if (status === 401) {
    return new ModelError("HUB_TOKEN_REFUSED", `${host} does not accept the token it was sent for ${id}`, {
      hint: "Set HF_TOKEN to a valid token, or log in again with huggingface_hub (hf auth login).",
    });
  }
  if (status === 403) {
    return new ModelError("HUB_FORBIDDEN", `${host} does not let ${known ? "this token" : "you"} read ${id}`, {
      hint: known ? "Give the token the right to read this model." : "Set HF_TOKEN to a token that may read it.",
    });
  }
  return new ModelError("HUB_FAILED", `${host} answered ${status} when asked for ${file ?? "the files"} of ${id}`, {
    hint: status === 429 ? "It limits requests: wait a while, or set HF_TOKEN." : "Try again later.",
  });
}

/** No answer at all. */
export function unreachable(hub: HubEnvironment, target: HubTarget, cause: unknown): ModelError {
  return new ModelError(
    UNREACHABLE,
    `${hostOf(hub.endpoint)} cannot be reached for ${target.id} (${reasonOf(cause)})`,
    {
      hint: "Check the network (HTTPS_PROXY for a proxy, HF_ENDPOINT for a mirror), or give the folder of a checkpoint.",
      cause,
    },
  );
}

/** The connection was lost again and again while a file came in. */
export function cut(target: HubTarget, have: number, size: number, cause: unknown): ModelError {
  return new ModelError(
    "HUB_CONNECTION_CUT",
    `${target.id}: the connection was cut at ${have} of ${size} bytes of ${target.file} (${reasonOf(cause)})`,
    { hint: "What came is kept: run the same command again and it goes on from there.", cause },
  );
}

/** The download was stopped on request. */
export function interrupted({ id }: HubTarget): QloraError {
  return new QloraError("INTERRUPTED", `interrupted while downloading ${id}`, {
    hint: "What came is kept: run the same command again and it goes on from there.",
  });
}

/** Short words for a failed request: a code such as ECONNRESET where there is one. */
function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { code } = cause as NodeJS.ErrnoException;
  if (typeof code === "string" && code !== "") return code;
  return cause.name === "TimeoutError" || cause.name === "AbortError" ? "no answer in time" : cause.message;
}
