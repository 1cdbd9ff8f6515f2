/** What every server of qlora keeps to: the socket, whose requests are answered, headers. */
import { QloraError } from "../../core/errors.ts";

/** Names under which a browser on this machine reaches it; any other is a page of somebody else's that resolves to us. */
const LOOPBACK = new Set(["127.0.0.1", "localhost", "::1", "[::1]"]);
/** A name or an address, perhaps with a port; a URL may be made of more, and then means another host than it seems to. */
const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;

/** What a request without a usable Host or path is told. */
export const NO_URL = "expected a request with a Host and a path";

/** Whether a host's name or address is this machine's own. */
export const isLoopback = (host: string): boolean => LOOPBACK.has(host);

/** The URL of a request; undefined where it names no host, or no path. */
export function requestUrl(request: Request): URL | undefined {
  const named = HOST.test(request.headers.get("host") ?? "") && URL.canParse(request.url);
  return named ? new URL(request.url) : undefined;
}

/** The URL of a request to this machine, or the answer to one that is not. */
export function localUrl(request: Request): URL | Response {
  const url = requestUrl(request);
  if (url === undefined) return refuse(400, NO_URL);
  return isLoopback(url.hostname) ? url : refuse(403, `${url.hostname} is not this machine`);
}

/** How a server listens. */
export interface ListenOptions {
  /** Address; default 127.0.0.1. */
  readonly hostname?: string;
  /** Most bytes of a request's body; default: Bun's. */
  readonly maxRequestBodySize?: number;
  /** The answer where `fetch` throws. */
  readonly error?: (error: Error) => Response;
}

/**
 * Listens on a port.
 * @throws QloraError PORT_UNAVAILABLE
 */
export function listen(
  port: number,
  fetch: (request: Request) => Response | Promise<Response>,
  { hostname = "127.0.0.1", error = () => refuse(500, "the answer could not be made"), ...rest }: ListenOptions = {},
): Bun.Server<undefined> {
  try {
    return Bun.serve({
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port,
      idleTimeout: 0, // a stream may be silent, and a request wait, for longer than any timeout
      reusePort: false, // what is no development shares ports otherwise
      // Bun's own page of an error shows the source around it, and where that lies.
      development: false,
      error,
      fetch,
      ...rest,
    });
  } catch (cause) {
    const why = UNAVAILABLE[(cause as NodeJS.ErrnoException).code ?? ""];
    if (why === undefined) throw cause;
    throw new QloraError("PORT_UNAVAILABLE", `port: ${port} on ${hostname} ${why}`, {
      hint: "Name another --port; 0 takes any that is free.",
      cause,
    });
  }
}

const UNAVAILABLE: Readonly<Record<string, string>> = {
  EADDRINUSE: "is in use",
  EACCES: "is not ours to open",
  EADDRNOTAVAIL: "is not of this machine",
};

/** Headers of an answer that nothing keeps and nothing takes for another type. */
const UNKEPT = { "cache-control": "no-store", "x-content-type-options": "nosniff" } as const;

/** An answer that nothing keeps and nothing takes for another type. */
export function respond(body: string | ReadableStream, type: string, status = 200): Response {
  return new Response(body, { status, headers: { ...UNKEPT, "content-type": type } });
}

/** The same, as JSON. */
export function respondJson(body: object, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return Response.json(body, { status, headers: { ...UNKEPT, ...headers } });
}

/** An answer that says why there is none. */
export function refuse(status: number, why: string): Response {
  return respond(`${why}\n`, "text/plain; charset=utf-8", status);
}
