/** A hub on 127.0.0.1 that takes repositories, LFS objects and commits; what lies in it is what was committed. */
import { type Answer, type Seen, type StandInServer, startServer } from "../reporters/server.ts";
import { gitSha1, sha256 } from "./server.ts";

/** A repository, and what was asked. */
export interface TakingHub extends AsyncDisposable {
  readonly url: string;
  readonly seen: StandInServer["seen"];
  /** Files of the repository. */
  readonly files: Map<string, Buffer>;
  readonly made: Record<string, unknown>[];
  /** Titles of the commits. */
  readonly commits: string[];
  /** Answers in place of the hub where it gives something. */
  trouble: (seen: Seen) => Answer | undefined;
}

const isLfs = (path: string): boolean => path.endsWith(".safetensors");

/** Starts one for the model `id`, which is not there yet. */
export async function startTakingHub(id: string, token: string): Promise<TakingHub> {
  const objects = new Map<string, Buffer>();
  const files = new Map<string, Buffer>();
  const made: Record<string, unknown>[] = [];
  const commits: string[] = [];
  const jsonOf = ({ body }: Seen): Record<string, unknown> => JSON.parse(body.toString()) as Record<string, unknown>;
  const hub: { trouble: TakingHub["trouble"] } = { trouble: () => undefined };
  const server: StandInServer = await startServer((seen) => {
    const trouble = hub.trouble(seen);
    if (trouble !== undefined) return trouble;
    const path = seen.path.split("?")[0]!;
    if (path.startsWith("/lfs/")) {
      objects.set(path.slice(5), seen.body);
      return {};
    }
    if (seen.headers.authorization !== `Bearer ${token}`)
      return { status: 401, json: { error: "Invalid credentials" } };
    if (path === "/api/repos/create") {
      if (made.length > 0) return { status: 409, json: { error: "You already created this model repo" } };
      made.push(jsonOf(seen));
      return { json: { url: `${server.url}/${id}`, id: "1" } };
    }
    if (path.startsWith(`/api/models/${id}/tree/main`)) {
      const entries = [...files].map(([name, content]) => {
        const entry = { type: "file", path: name, size: content.length };
        return isLfs(name)
          ? { ...entry, oid: "0", lfs: { oid: sha256(content), size: content.length, pointerSize: 134 } }
          : { ...entry, oid: gitSha1(content) };
      });
      return { json: entries };
    }
    if (path === `/api/models/${id}/preupload/main`) {
      const named = jsonOf(seen)["files"] as { path: string }[];
      return {
        json: { files: named.map((file) => ({ path: file.path, uploadMode: isLfs(file.path) ? "lfs" : "regular" })) },
      };
    }
    if (path === `/${id}.git/info/lfs/objects/batch`) {
      const wanted = jsonOf(seen)["objects"] as { oid: string; size: number }[];
      const answers = wanted.map((object) =>
        objects.has(object.oid)
          ? object
          : { ...object, actions: { upload: { href: `${server.url}/lfs/${object.oid}`, header: {} } } },
      );
      return { json: { transfer: "basic", objects: answers } };
    }
    if (path === `/api/models/${id}/commit/main`) {
      for (const line of seen.body.toString().split("\n")) {
        const { key, value } = JSON.parse(line) as { key: string; value: Record<string, string> };
        if (key === "header") commits.push(value["summary"]!);
        if (key === "file") files.set(value["path"]!, Buffer.from(value["content"]!, "base64"));
        if (key === "lfsFile") files.set(value["path"]!, objects.get(value["oid"]!)!);
      }
      return { json: { commitOid: "c", commitUrl: "u", hookOutput: "" } };
    }
    return { status: 404, json: { error: `no such route ${path}` } };
  });
  return {
    url: server.url,
    seen: server.seen,
    files,
    made,
    commits,
    get trouble() {
      return hub.trouble;
    },
    set trouble(next) {
      hub.trouble = next;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
