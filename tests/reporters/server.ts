/** Servers on 127.0.0.1 that stand in for trackers: they note what they are asked and answer as a test says. */
import type { AddressInfo } from "node:net";
import { createServer } from "node:http";

/** A request as it came. */
export interface Seen {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  /** The body as JSON, where it is. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** What to answer; `drop` closes the connection. */
export interface Answer {
  readonly status?: number;
  readonly json?: unknown;
  readonly text?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly drop?: boolean;
}

/** A server, and what it saw. */
export interface StandInServer extends AsyncDisposable {
  readonly url: string;
  readonly seen: Seen[];
}

/** Starts one. */
export async function startServer(answer: (seen: Seen) => Answer): Promise<StandInServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const body = Buffer.concat(pieces);
      const isJson = request.headers["content-type"] === "application/json";
      const json = isJson ? (JSON.parse(body.toString()) as Seen["json"]) : {};
      const own = { method: request.method!, path: request.url!, headers: request.headers, body, json };
      seen.push(own);
      const { status = 200, json: out, text, headers = {}, drop } = answer(own);
      if (drop === true) return void request.socket.destroy();
      response.writeHead(status, headers);
      response.end(text ?? JSON.stringify(out ?? {}));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
