/** HTTP on this machine: what every server of qlora keeps to. */
import { QloraError } from "../../core/errors.ts";

/** Names under which a browser on this machine reaches it; any other is a page of somebody else's that resolves to us. */
const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);
/** A name or an address, perhaps with a port; a URL may be made of more, and then means another host than it seems to. */
const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;

/** The URL of a request to this machine, or the answer to one that is not. */
export function localUrl(request: Request): URL | Response {
  const host = request.headers.get("host") ?? "";
  if (!HOST.test(host) || !URL.canParse(request.url)) return refuse(400, "expected a request with a Host and a path");
  const url = new URL(request.url);
  return LOOPBACK.has(url.hostname) ? url : refuse(403, `${url.hostname} is not this machine`);
}

/**
 * Listens on a port of this machine.
 * @throws QloraError PORT_UNAVAILABLE
 */
export function listen(
  port: number,
  fetch: (request: Request) => Response | Promise<Response>,
  hostname = "127.0.0.1",
): Bun.Server<undefined> {
  try {
    // A stream may be silent for longer than any timeout.
    return Bun.serve({
      hostname,
      port,
      idleTimeout: 0,
      reusePort: false, // what is no development shares ports otherwise
      // Bun's own page of an error shows the source around it, and where that lies.
      development: false,
      error: () => refuse(500, "the answer could not be made"),
      fetch,
    });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EADDRINUSE" && code !== "EACCES") throw cause;
    const why = code === "EACCES" ? "is not ours to open" : "is in use";
    throw new QloraError("PORT_UNAVAILABLE", `port: ${port} on ${hostname} ${why}`, {
      hint: "Name another --port; 0 takes any that is free.",
      cause,
    });
  }
}

/** An answer that nothing keeps and nothing takes for another type. */
export function respond(body: string | ReadableStream, type: string, status = 200): Response {
  const headers = { "content-type": type, "cache-control": "no-store", "x-content-type-options": "nosniff" };
  return new Response(body, { status, headers });
}

/** An answer that says why there is none. */
export function refuse(status: number, why: string): Response {
  return respond(`${why}\n`, "text/plain; charset=utf-8", status);
}
