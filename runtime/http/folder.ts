/** A folder's files over HTTP on this machine alone, by ranges where they are asked for. */
import { resolve, sep } from "node:path";
import { defineOptions, option } from "../../core/options/options.ts";
import { defineRequest } from "../../core/options/request.ts";
import { requireBun } from "../host.ts";
import { listen, localUrl, refuse } from "./local.ts";

/** Options of a folder's server. */
export const folderServerOptions = defineOptions({
  port: option("0 <= number.integer <= 65535", { default: 8080, help: "port on 127.0.0.1; 0 takes any that is free" }),
});

/** How a folder is served. */
export interface ServeFolderOptions {
  /** Port on 127.0.0.1; 0 takes any that is free. Default 8080. */
  readonly port?: number;
}

const check = defineRequest<ServeFolderOptions>("serveFolder", {
  port: `${folderServerOptions.shape.port.definition}?`,
});

/** A server that runs. */
export interface FolderServer extends AsyncDisposable {
  readonly url: string;
  stop(): Promise<void>;
}

/** Serves a folder until it is stopped. @throws QloraError PORT_UNAVAILABLE */
export async function serveFolder(folder: string, options: ServeFolderOptions = {}): Promise<FolderServer> {
  const { port = folderServerOptions.parse({}).port } = check(options);
  requireBun("serveFolder");
  const root = resolve(folder);
  const server = listen(port, async (request) => {
    const url = localUrl(request);
    if (url instanceof Response) return url;
    if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "only GET");
    const path = pathBelow(root, url.pathname);
    const file = path === undefined ? undefined : Bun.file(path);
    if (file === undefined || !(await file.exists())) return refuse(404, "nothing here");
    return answerFile(file, request.headers.get("range"));
  });
  const stop = (): Promise<void> => server.stop(true);
  return { url: `http://127.0.0.1:${server.port}/`, stop, [Symbol.asyncDispose]: stop };
}

/** The file that an address means; undefined for what leaves the folder or is no text. */
function pathBelow(root: string, pathname: string): string | undefined {
  let name: string;
  try {
    name = decodeURIComponent(pathname);
  } catch {
    return undefined; // no UTF-8: there is no such file
  }
  if (name.includes("\0")) return undefined;
  const path = resolve(root, `.${name.endsWith("/") ? `${name}index.html` : name}`);
  return path.startsWith(root + sep) ? path : undefined;
}

/** All of a file, or the one range of it that is asked for; several are answered with all, as HTTP allows. */
function answerFile(file: Bun.BunFile, range: string | null): Response {
  const headers = {
    "content-type": file.type,
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "accept-ranges": "bytes",
  };
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(range ?? "") ?? [];
  if (from === "" && to === "") return new Response(file, { headers });
  const { size } = file;
  const begin = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === "" || to === "" ? size : Math.min(size, Number(to) + 1);
  if (begin >= end) return new Response(null, { status: 416, headers: { "content-range": `bytes */${size}` } });
  return new Response(file.slice(begin, end), {
    status: 206,
    headers: { ...headers, "content-range": `bytes ${begin}-${end - 1}/${size}` },
  });
}
