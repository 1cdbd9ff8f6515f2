/** Files to a model repository of the hub: what lies there already is left, large files come one commit each, so that a cut upload goes on. */
import { createHash } from "node:crypto";
import { ModelError, QloraError } from "../../core/errors.ts";
import type { RunListener } from "../events.ts";
import { loadPackage } from "../packages.ts";
import { checkEndpoint, type HubEnvironment } from "./environment.ts";
import { publicUrl } from "./url.ts";

/** A file as it shall lie in the repository. */
export interface UploadFile {
  readonly path: string;
  readonly content: Blob;
}

/** Where files go. */
export interface UploadOptions {
  /** `org/name`. */
  readonly repo: string;
  readonly branch: string;
  /** Of a repository that is made now; one that is there stays as it is. */
  readonly visibility: "private" | "public";
  readonly title: string;
  readonly onEvent?: RunListener | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What became of them. */
export interface UploadResult {
  readonly url: string;
  /** True where the repository was made for this. */
  readonly created: boolean;
  readonly uploaded: readonly string[];
  /** They lay there, byte for byte. */
  readonly unchanged: readonly string[];
}

/** Bytes from which a file is a commit of its own. */
const LARGE = 10 * 2 ** 20;

/** @throws QloraError HUB_TOKEN_MISSING, HUB_OFFLINE, HUB_PUSH_FAILED or INTERRUPTED */
export async function uploadFiles(
  hub: HubEnvironment,
  files: readonly UploadFile[],
  { repo: name, branch, visibility, title, onEvent, signal }: UploadOptions,
): Promise<UploadResult> {
  checkEndpoint(hub);
  const accessToken = tokenOf(hub, name);
  const client = await loadPackage(import("@huggingface/hub"), {
    name: "@huggingface/hub",
    task: `pushing to ${name}`,
    hint: "Reinstall the packages.",
  });
  const repo = { type: "model", name } as const;
  const common = { repo, accessToken, hubUrl: hub.endpoint };
  const explain = async <T>(work: Promise<T>): Promise<T> =>
    work.catch((cause: unknown) => {
      if (signal?.aborted === true) throw interrupted(name);
      throw failed(hub, name, cause);
    });
  const created = await explain(
    client.createRepo({ ...common, visibility }).then(
      () => true,
      (error: unknown) => {
        if (statusOf(error) === 409) return false; // it is there
        throw error as Error;
      },
    ),
  );
  const there = await explain(remoteFiles(client.listFiles({ ...common, recursive: true, revision: branch })));
  const unchanged: string[] = [];
  const waiting: UploadFile[] = [];
  for (const file of files) {
    const known = there.get(file.path);
    const same =
      known !== undefined && known.size === file.content.size && (await hashOf(file.content, known.lfs)) === known.oid;
    if (same) unchanged.push(file.path);
    else waiting.push(file);
  }
  const large = waiting.filter(({ content }) => content.size >= LARGE);
  const batches = [...large.map((file) => [file]), waiting.filter((file) => !large.includes(file))];
  const uploaded: string[] = [];
  for (const batch of batches.filter((some) => some.length > 0)) {
    if (signal?.aborted === true) throw interrupted(name);
    const operations = batch.map(({ path, content }) => ({ operation: "addOrUpdate", path, content }) as const);
    const named = batch.length === 1 ? `${title}: ${batch[0]!.path}` : title;
    await explain(
      client.commit({
        ...common,
        branch,
        title: named,
        operations,
        useXet: false,
        ...(signal && { abortSignal: signal }),
      }),
    );
    uploaded.push(...batch.map(({ path }) => path));
    onEvent?.({ type: "progress", what: `pushing to ${name}`, done: uploaded.length, total: waiting.length });
  }
  return { url: `${publicUrl(hub.endpoint)}/${name}`, created, uploaded, unchanged };
}

function tokenOf({ offline, token, notes = [] }: HubEnvironment, repo: string): string {
  if (offline) {
    throw new QloraError("HUB_OFFLINE", `pushing to ${repo}: HF_HUB_OFFLINE is set, so nothing is sent`, {
      hint: "Unset it.",
    });
  }
  if (token !== undefined) return token;
  throw new QloraError("HUB_TOKEN_MISSING", [`pushing to ${repo}: there is no token of the hub`, ...notes].join("; "), {
    hint: "Set HF_TOKEN to a token that may write, or log in with huggingface_hub (hf auth login).",
  });
}

/** What the hub says of a file: its sha256 where it lies in LFS, else git's hash. */
interface RemoteFile {
  readonly size: number;
  readonly oid: string;
  readonly lfs: boolean;
}

interface Entry {
  readonly type: string;
  readonly path: string;
  readonly size: number;
  readonly oid?: string;
  readonly lfs?: { readonly oid: string };
}

/** Every file of the repository; none where it is empty. */
async function remoteFiles(entries: AsyncIterable<Entry>): Promise<ReadonlyMap<string, RemoteFile>> {
  const found = new Map<string, RemoteFile>();
  try {
    for await (const { type, path, size, oid = "", lfs } of entries)
      if (type === "file") found.set(path, { size, oid: lfs?.oid ?? oid, lfs: lfs !== undefined });
  } catch (error) {
    if (statusOf(error) !== 404) throw error; // a repository without a commit has no tree
  }
  return found;
}

async function hashOf(content: Blob, lfs: boolean): Promise<string> {
  const hash = createHash(lfs ? "sha256" : "sha1");
  if (!lfs) hash.update(`blob ${content.size}\0`);
  for await (const piece of content.stream()) hash.update(piece);
  return hash.digest("hex");
}

const statusOf = (error: unknown): number | undefined => {
  const { statusCode } = (error ?? {}) as { readonly statusCode?: unknown };
  return typeof statusCode === "number" ? statusCode : undefined;
};

const AGAIN = "What arrived is kept: the same command goes on from there.";

const interrupted = (repo: string): QloraError =>
  new QloraError("INTERRUPTED", `interrupted while pushing to ${repo}`, { hint: AGAIN });

/** Why the hub did not take it; the token is struck from what it answered. */
function failed(hub: HubEnvironment, repo: string, cause: unknown): ModelError {
  const status = statusOf(cause);
  const said = cause instanceof Error ? cause.message : String(cause);
  const reason = hub.token === undefined ? said : said.replaceAll(hub.token, "***");
  const hint =
    status === 401 || status === 403
      ? `Use a token that may write to ${repo} (HF_TOKEN).`
      : status === 404
        ? `Check that the organization of ${repo} exists, and that the token may write to it.`
        : AGAIN;
  return new ModelError("HUB_PUSH_FAILED", `pushing to ${repo}: ${reason}`, { hint });
}
