/**
 * Requests to the hub: redirects are followed by hand so that the token goes to the hub's own address alone, and what
 * may pass by itself (a lost connection, a busy server) is tried again. Bun's fetch reads HTTP_PROXY, HTTPS_PROXY and
 * NO_PROXY itself.
 */
import { version } from "../../core/util/version.ts";
import type { HubEnvironment } from "./environment.ts";
import { interrupted, refusal, unreachable, type HubTarget } from "./errors.ts";

const ATTEMPTS = 3;
const MAX_REDIRECTS = 8;
const LONGEST_DELAY = 30_000;
const BUSY = new Set([408, 429, 500, 502, 503, 504]);

/** True for a status that may pass by itself. */
export const isBusy = (status: number): boolean => BUSY.has(status);

/** One request. */
export interface HubRequest {
  readonly method?: "GET" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Sends one request once; fails as fetch does. A redirect that carries the file's hash is the answer to a HEAD. */
export async function send(hub: HubEnvironment, url: string, request: HubRequest): Promise<Response> {
  const { method = "GET", signal } = request;
  const home = new URL(hub.endpoint).origin;
  let address = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    // Without identity, a proxy may compress and the lengths would count other bytes than the file's.
    const headers = new Headers({
      "accept-encoding": "identity",
      "user-agent": `qlora/${version}`,
      ...request.headers,
    });
    if (hub.token !== undefined && new URL(address).origin === home) {
      headers.set("authorization", `Bearer ${hub.token}`);
    }
    const response = await fetch(address, { method, headers, redirect: "manual", signal });
    const location = response.headers.get("location");
    const redirects = response.status >= 300 && response.status < 400 && location !== null;
    if (!redirects || (method === "HEAD" && response.headers.has("x-linked-etag"))) return response;
    await response.body?.cancel();
    address = new URL(location, address).href;
  }
  throw new Error(`more than ${MAX_REDIRECTS} redirects`);
}

/**
 * Asks until there is an answer that is no passing failure.
 * @throws ModelError saying what was refused, or HUB_UNREACHABLE
 */
export async function ask(hub: HubEnvironment, target: HubTarget, url: string, request: HubRequest): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let response: Response;
    try {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(hub.answerTimeout)]);
      response = await send(hub, url, { ...request, signal });
    } catch (error) {
      if (request.signal.aborted) throw interrupted(target);
      if (attempt === ATTEMPTS) throw unreachable(hub, target, error);
      await pause(hub, attempt, request.signal);
      continue;
    }
    if (response.status < 400) return response;
    await response.body?.cancel();
    if (attempt === ATTEMPTS || !isBusy(response.status)) {
      throw response.status >= 500
        ? unreachable(hub, target, `status ${response.status}`)
        : refusal(hub, target, response);
    }
    await pause(hub, attempt, request.signal, response.headers.get("retry-after"));
  }
}

/** Waits before retry number `attempt`; at least as long as the server asked for, in seconds. */
export async function pause(
  hub: HubEnvironment,
  attempt: number,
  signal: AbortSignal,
  retryAfter: string | null = null,
): Promise<void> {
  const asked = 1000 * (Number(retryAfter) || 0);
  const delay = Math.min(LONGEST_DELAY, Math.max(asked, hub.retryDelay * 2 ** (attempt - 1)));
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, delay);
    signal.addEventListener("abort", done);
  });
}
