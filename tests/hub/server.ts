/**
 * A server on 127.0.0.1 that speaks the hub's API: the revision's commit and files, HEAD and GET of files, Git LFS behind a
 * redirect to another host (here: another port), error headers. Hashes are computed here, by their definitions.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface SeenRequest {
  readonly host: "hub" | "cdn";
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

/** How the server misbehaves; change it between requests. */
export interface Misbehaviour {
  /** Status and X-Error-Code of every answer. */
  refuse?: { status: number; code?: string };
  /** Drops the connection after so many bytes of a file that is longer; each entry once. */
  cuts?: number[];
  /** Resolves once the client has so many bytes of it: what lies in a socket may be lost with the connection. */
  arrived?: (bytes: number) => Promise<void>;
  /** Sends other bytes than it announces. */
  corrupt?: boolean;
  /** Sends whole files whatever the range. */
  ignoreRange?: boolean;
  /** Answers so many requests with 503 first. */
  busy?: number;
  /** Sends so many bytes and then nothing more. */
  stallAfter?: number;
  /** Announces no hashes. */
  hideHashes?: boolean;
}

export interface FakeHub extends AsyncDisposable {
  readonly url: string;
  readonly cdnUrl: string;
  readonly commit: string;
  readonly requests: SeenRequest[];
  readonly misbehaviour: Misbehaviour;
  /** Bytes of file contents sent. */
  readonly bytesSent: () => number;
  readonly stop: () => Promise<void>;
}

export const COMMIT = "5a3f0a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f";

export const sha256 = (content: Uint8Array): string => createHash("sha256").update(content).digest("hex");
export const gitSha1 = (content: Uint8Array): string =>
  createHash("sha1").update(`blob ${content.byteLength}\0`).update(content).digest("hex");

/** Serves `files` as the model (or the dataset) `id` at COMMIT, `main` and `v1`; `.safetensors`, `.parquet` and tokenizer.json lie in LFS. */
export async function startHub(
  id: string,
  files: ReadonlyMap<string, Uint8Array>,
  kind: "models" | "datasets" = "models",
): Promise<FakeHub> {
  const address = kind === "models" ? id : `datasets/${id}`;
  const requests: SeenRequest[] = [];
  const misbehaviour: Misbehaviour = {};
  let bytes = 0;
  const isLfs = (name: string): boolean => /\.(safetensors|parquet)$/.test(name) || name === "tokenizer.json";

  const note = (host: "hub" | "cdn", request: IncomingMessage): string => {
    const [path = ""] = decodeURIComponent(request.url ?? "").split("?");
    const { authorization, range } = request.headers;
    requests.push({ host, method: request.method ?? "", path, authorization, range });
    return path;
  };
  const refused = (response: ServerResponse): boolean => {
    if ((misbehaviour.busy ?? 0) > 0) {
      misbehaviour.busy!--;
      response.writeHead(503).end();
      return true;
    }
    if (misbehaviour.refuse === undefined) return false;
    const { status, code } = misbehaviour.refuse;
    response.writeHead(status, code === undefined ? {} : { "X-Error-Code": code }).end();
    return true;
  };
  const sendFile = (request: IncomingMessage, response: ServerResponse, name: string): void => {
    const content = files.get(name)!;
    const start =
      misbehaviour.ignoreRange === true ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const rest = Buffer.from(content.subarray(start));
    if (misbehaviour.corrupt === true && rest.length > 0) rest[0]! ^= 1;
    const range = `bytes ${start}-${content.length - 1}/${content.length}`;
    response.writeHead(start > 0 ? 206 : 200, {
      "Content-Length": rest.length,
      ...(start > 0 ? { "Content-Range": range } : {}),
    });
    const { cuts = [], arrived, stallAfter } = misbehaviour;
    const cut = rest.length > (cuts[0] ?? Infinity) ? cuts.shift() : undefined;
    const length = cut ?? Math.min(rest.length, stallAfter ?? Infinity);
    bytes += length;
    response.write(rest.subarray(0, length), () => {
      if (cut !== undefined) void arrived?.(start + length).then(() => request.socket.destroy());
      else if (length === rest.length) response.end();
    });
  };

  const hub = createServer((request, response) => {
    const path = note("hub", request);
    if (refused(response)) return;
    const revision = path.startsWith(`/api/${kind}/${id}/revision/`)
      ? path.slice(`/api/${kind}/${id}/revision/`.length)
      : undefined;
    if (revision !== undefined) {
      if (![COMMIT, "main", "v1", "refs/pr/1"].includes(revision)) {
        response.writeHead(404, { "X-Error-Code": "RevisionNotFound" }).end();
        return;
      }
      const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
      response.writeHead(200, { "Content-Type": "application/json" });
      response.end(JSON.stringify({ _id: "1", id, sha: COMMIT, siblings, lastModified: "2024-07-01T00:00:00.000Z" }));
      return;
    }
    const name = path.startsWith(`/${address}/resolve/${COMMIT}/`)
      ? path.slice(`/${address}/resolve/${COMMIT}/`.length)
      : undefined;
    const content = name === undefined ? undefined : files.get(name);
    if (name === undefined || content === undefined) {
      response.writeHead(404, { "X-Error-Code": name === undefined ? "RepoNotFound" : "EntryNotFound" }).end();
      return;
    }
    const hidden = misbehaviour.hideHashes === true;
    if (isLfs(name)) {
      const linked = { "X-Linked-Etag": `"${sha256(content)}"`, "X-Linked-Size": content.length };
      response.writeHead(302, { Location: `${cdnUrl}/${name}?signature=abc`, ...(hidden ? {} : linked) }).end();
      return;
    }
    if (request.method === "HEAD") {
      response
        .writeHead(200, { "Content-Length": content.length, ...(hidden ? {} : { ETag: `"${gitSha1(content)}"` }) })
        .end();
      return;
    }
    sendFile(request, response, name);
  });
  const cdn = createServer((request, response) => {
    const path = note("cdn", request);
    if (refused(response)) return;
    if (request.method === "HEAD")
      response.writeHead(200, { "Content-Length": files.get(path.slice(1))!.length }).end();
    else sendFile(request, response, path.slice(1));
  });
  const listen = async (server: typeof hub): Promise<string> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const [url, cdnUrl] = [await listen(hub), await listen(cdn)];
  const stop = async (): Promise<void> => {
    for (const server of [hub, cdn]) {
      server.closeAllConnections();
      server.close();
    }
  };
  return {
    url,
    cdnUrl,
    commit: COMMIT,
    requests,
    misbehaviour,
    bytesSent: () => bytes,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
