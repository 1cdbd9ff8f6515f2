/** From the name of a checkpoint to its folder: as it is, from the cache, or downloaded. */
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, ModelError, QloraError } from "../../core/errors.ts";
import type { TensorInfo } from "../../core/formats/safetensors-header.ts";
import { defineRequest } from "../../core/options/request.ts";
import type { RunListener } from "../events.ts";
import { makeFolder } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { loadPackage } from "../packages.ts";
import { cachePaths, linkBlob, readRef, writeRef, type CachePaths } from "./cache.ts";
import { bytesAtHand, describeFile, downloadBlob, type DownloadContext, type RemoteFile } from "./download.ts";
import { checkEndpoint, hubEnvironment, type HubEnvironment } from "./environment.ts";
import { UNREACHABLE } from "./errors.ts";
import { hasTokenizer, missingFile, smallFiles, weightFiles, type ModelPart } from "./files.ts";
import { ask } from "./http.ts";
import { checkRevision, isCommit, parseReference } from "./reference.ts";
import { remoteTensors } from "./remote-header.ts";
import { hostOf } from "./url.ts";

/** Files in the air at once. */
const LANES = 4;

/** How a model is looked for. */
export interface ResolveOptions {
  /** Branch, tag or commit of a hub model; main where it is undefined. */
  readonly revision?: string | undefined;
  /** Use the cache alone; also HF_HUB_OFFLINE=1. */
  readonly offline?: boolean | undefined;
  /** `config` fetches config.json alone; default `all`. */
  readonly part?: ModelPart | undefined;
  /** Bytes there and bytes in all, of the files asked for so far. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Gets sentences for the reader: what is downloaded, or that the cache is used. */
  readonly onEvent?: RunListener | undefined;
  /**
   * Called with the folder once config.json lies in it, again once the index does, and with the headers of the weights before
   * their tensors are asked for: what it throws ends the download. Not called where nothing has to be fetched.
   */
  readonly onFiles?: ((directory: string, headers?: RemoteHeaders) => Promise<void>) | undefined;
  /** Aborting stops a download; what came is kept. */
  readonly signal?: AbortSignal | undefined;
}

/** What every tensor of a hub model is, and the file that holds it. */
export type RemoteHeaders = ReadonlyMap<string, TensorInfo & { readonly file: string }>;

const check = defineRequest<ResolveOptions>("resolveModel", {
  revision: "string?",
  offline: "boolean?",
  part: "'config' | 'all' | 'adapter'?",
  onProgress: "Function?",
  onEvent: "Function?",
  onFiles: "Function?",
  signal: "object?",
});

/** A checkpoint on this machine. */
export interface ResolvedModel {
  /** The folder as given, or the hub model's folder in the cache. */
  readonly directory: string;
  /** Commit of a hub model; undefined for a folder. */
  readonly sha: string | undefined;
}

/**
 * Finds a checkpoint: a folder is used as it is; anything else is a model of the hub, `org/name`, of which the files
 * that are needed are brought into huggingface_hub's cache and checked against their hashes.
 * @param hub for tests; by default from HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE
 * @throws ConfigError, ModelError, QloraError DISK_FULL, INTERRUPTED or PACKAGE_NOT_LOADED
 * @example const { directory } = await resolveModel(checkpoint); // a folder, or a hub id: "unsloth/gemma-2-9b-it-bnb-4bit"
 */
export async function resolveModel(
  idOrFolder: string,
  options: ResolveOptions = {},
  hub: HubEnvironment = hubEnvironment(),
): Promise<ResolvedModel> {
  const { part = "all", onEvent } = check(options);
  const reference = parseReference(idOrFolder);
  if (reference.kind === "folder") {
    if (options.revision === undefined) return { directory: reference.directory, sha: undefined };
    throw new ConfigError("REVISION_OF_FOLDER", `revision: ${idOrFolder} is a folder, which has no revisions`);
  }
  const { id } = reference;
  const revision = options.revision ?? "main";
  checkRevision(revision);
  const paths = cachePaths(hub.cacheDir, id);
  const cached = await findCached(paths, revision, part);
  if (isCommit(revision) && cached.whole && (part !== "all" || hasTokenizer(cached.directory))) return cached;
  if (options.offline ?? hub.offline) {
    if (cached.whole) return cached;
    throw new ModelError("HUB_OFFLINE", `${id} at ${revision} is not in the cache ${hub.cacheDir}: ${cached.lacks}`, {
      hint: "It cannot be downloaded offline: go online once (without HF_HUB_OFFLINE), or give the folder of a checkpoint.",
    });
  }
  checkEndpoint(hub);
  if (onEvent !== undefined && !told.has(onEvent)) {
    told.add(onEvent);
    for (const message of hub.notes ?? []) onEvent({ type: "warning", message });
  }
  const signal = options.signal ?? new AbortController().signal;
  let listing: Listing;
  try {
    listing = await listModel(hub, id, revision, signal);
  } catch (error) {
    if (!(error instanceof ModelError) || error.code !== UNREACHABLE || !cached.whole) throw error;
    onEvent?.({
      type: "warning",
      message: `${error.message}: using ${id} as cached, commit ${cached.sha.slice(0, 7)}`,
    });
    return cached;
  }
  await downloadModel({ hub, paths, signal, id, part, listing, options });
  await writeRef(paths, revision, listing.sha);
  return { directory: paths.snapshot(listing.sha), sha: listing.sha };
}

/** Listeners that know what a .env file changed: a command asks the hub more than once. */
const told = new WeakSet<RunListener>();

/** What the cache knows of a revision. */
type Cached =
  | { readonly whole: true; readonly directory: string; readonly sha: string }
  | { readonly whole: false; readonly lacks: string };

async function findCached(paths: CachePaths, revision: string, part: ModelPart): Promise<Cached> {
  const sha = await readRef(paths, revision);
  if (sha === undefined) return { whole: false, lacks: "it was never downloaded" };
  const directory = paths.snapshot(sha);
  if (!existsSync(directory)) return { whole: false, lacks: "it was never downloaded" };
  const missing = await missingFile(directory, part);
  return missing === undefined ? { whole: true, directory, sha } : { whole: false, lacks: `${missing} is missing` };
}

/** A model's commit and its files. */
interface Listing {
  readonly sha: string;
  readonly names: readonly string[];
}

async function listModel(hub: HubEnvironment, id: string, revision: string, signal: AbortSignal): Promise<Listing> {
  const { modelInfo } = await loadPackage(import("@huggingface/hub"), {
    name: "@huggingface/hub",
    task: `looking for ${id} on the hub`,
    hint: "Reinstall the packages, or give the folder of a checkpoint.",
  });
  const get = async (url: unknown): Promise<Response> => ask(hub, { id, revision }, String(url), { signal });
  const answer: { readonly sha?: unknown; readonly filePaths: readonly string[] } = await modelInfo({
    name: id,
    revision,
    hubUrl: hub.endpoint,
    additionalFields: ["sha", "filePaths"],
    fetch: get as typeof fetch,
  }).catch((cause: unknown) => {
    if (cause instanceof QloraError) throw cause;
    throw notTheHub(hub, id, cause);
  });
  if (typeof answer.sha !== "string" || !isCommit(answer.sha)) throw notTheHub(hub, id);
  return { sha: answer.sha, names: answer.filePaths };
}

const notTheHub = (hub: HubEnvironment, id: string, cause?: unknown): ModelError =>
  new ModelError("HUB_FAILED", `${hostOf(hub.endpoint)} does not answer as the hub does when asked for ${id}`, {
    hint: "Check HF_ENDPOINT, and that no sign-in page of a network stands in between.",
    cause,
  });

interface Order {
  readonly hub: HubEnvironment;
  readonly paths: CachePaths;
  readonly signal: AbortSignal;
  readonly id: string;
  readonly part: ModelPart;
  readonly listing: Listing;
  readonly options: ResolveOptions;
}

/** Brings a commit's files into the cache: the small ones, then the weights that they name. */
async function downloadModel({ hub, paths, signal, id, part, listing, options }: Order): Promise<void> {
  const { sha, names } = listing;
  const directory = paths.snapshot(sha);
  let [done, total] = [0, 0];
  const stop = new AbortController();
  const context: DownloadContext = {
    hub,
    paths,
    signal: AbortSignal.any([signal, stop.signal]),
    onBytes: (count) => options.onProgress?.((done += count), total),
  };
  const describe = (wanted: readonly string[]): Promise<RemoteFile[]> => {
    const lacking = wanted.filter((name) => !existsSync(join(directory, name)));
    return inLanes(lacking, stop, (name) => describeFile(context, id, sha, name));
  };
  const fetchFiles = async (files: readonly RemoteFile[], quiet = false): Promise<void> => {
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    const missing = await checkSpace(context, files);
    total += bytes;
    if (missing > 0 && !quiet) {
      const from = `${id} (commit ${sha.slice(0, 7)}) from ${hostOf(hub.endpoint)}`;
      const rest = missing < bytes ? `, ${inUnits(missing)} of them to go` : "";
      options.onEvent?.({
        type: "info",
        message: `downloading ${from}: ${files.length} files, ${inUnits(bytes)}${rest}`,
      });
    }
    await inLanes(files, stop, async (file) => {
      await downloadBlob(context, file);
      await linkBlob(paths, sha, file.target.file, file.hash);
    });
  };
  const { onFiles } = options;
  const { config, index, others } = smallFiles(id, names, part);
  await fetchFiles(await describe([config]), true);
  if (part === "config") return;
  await onFiles?.(directory);
  await fetchFiles(await describe(index), true);
  const wanted = await weightFiles(id, names, directory, part);
  if (index.length > 0) await onFiles?.(directory);
  const weights = await describe(wanted);
  if (onFiles !== undefined && weights.length === wanted.length) {
    const headers = await remoteHeaders(context, weights, stop);
    if (headers !== undefined) await onFiles(directory, headers);
  }
  await fetchFiles(await describe(others));
  await fetchFiles(weights);
}

/** Headers of weights of which nothing is here yet; undefined where some of it is: they were judged when that began. */
async function remoteHeaders(
  context: DownloadContext,
  weights: readonly RemoteFile[],
  stop: AbortController,
): Promise<RemoteHeaders | undefined> {
  for (const file of weights) if ((await bytesAtHand(context, file)) > 0) return undefined;
  const files = await inLanes(weights, stop, (file) => remoteTensors(context, file));
  const headers = new Map<string, TensorInfo & { readonly file: string }>();
  for (const [i, tensors] of files.entries()) {
    if (tensors === undefined) return undefined;
    const { id, file } = weights[i]!.target;
    for (const [name, info] of tensors) headers.set(name, { ...info, file: `${id}/${file}` });
  }
  return headers;
}

/** Bytes to fetch. @throws QloraError DISK_FULL before anything is fetched */
async function checkSpace(context: DownloadContext, files: readonly RemoteFile[]): Promise<number> {
  const { blobs } = context.paths;
  let missing = 0;
  for (const file of files) missing += file.size - (await bytesAtHand(context, file));
  await explainWriteErrors(blobs, () => makeFolder(blobs));
  const { bavail, bsize } = await statfs(blobs);
  if (missing <= bavail * bsize) return missing;
  throw new QloraError(
    "DISK_FULL",
    `${blobs}: ${inUnits(missing)} are to be downloaded, ${inUnits(bavail * bsize)} are free`,
    {
      hint: "Free some space, or point HF_HUB_CACHE to another disk.",
    },
  );
}

/** Works on all items, a few at a time, and in their order; the first failure stops the others. */
async function inLanes<T, R>(items: readonly T[], stop: AbortController, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const failures: unknown[] = [];
  const queue = items.entries();
  const lane = async (): Promise<void> => {
    for (const [i, item] of queue) {
      if (stop.signal.aborted) return;
      try {
        results[i] = await work(item);
      } catch (error) {
        failures.push(error);
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (failures.length > 0) throw failures[0];
  return results;
}

/** `5.98 GB`; the hub counts in powers of ten. */
function inUnits(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return `${power === 0 ? bytes : (bytes / 1000 ** power).toPrecision(3)} ${units[power]}`;
}
