/** The socket, and how answers are written to it. */
import { QloraError } from "../../core/errors.ts";
import { errorBody } from "./protocol.ts";

/** Where a server listens. */
export interface Socket {
  readonly host: string;
  readonly port: number;
  readonly maxBodyBytes: number;
}

/** @throws QloraError PORT_UNAVAILABLE */
export function openSocket(settings: Socket, fetch: (request: Request) => Promise<Response>): Bun.Server<undefined> {
  const { host, port, maxBodyBytes } = settings;
  try {
    return Bun.serve({
      hostname: host.replace(/^\[|\]$/g, ""),
      port,
      reusePort: false, // what is no development shares ports otherwise
      development: false,
      maxRequestBodySize: maxBodyBytes,
      idleTimeout: 0, // a request waits as long as the queue is
      error: (error) => respond(errorBody(500, error), 500),
      fetch,
    });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EADDRINUSE" && code !== "EACCES" && code !== "EADDRNOTAVAIL") throw cause;
    const why =
      code === "EACCES" ? "is not ours to open" : code === "EADDRINUSE" ? "is in use" : "is not of this machine";
    throw new QloraError("PORT_UNAVAILABLE", `port: ${port} on ${host} ${why}`, {
      hint: "Name another --port; 0 takes any that is free.",
      cause,
    });
  }
}

const SAFE = { "cache-control": "no-store", "x-content-type-options": "nosniff" };

/** JSON. */
export function respond(body: object, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return Response.json(body, { status, headers: { ...SAFE, ...headers } });
}

export const plain = (body: string, status: number, type = "text/plain; charset=utf-8"): Response =>
  new Response(body, { status, headers: { ...SAFE, "content-type": type } });

export const page = (body: string): Response => plain(body, 200, "text/html; charset=utf-8");
