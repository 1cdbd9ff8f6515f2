/** From the name of a dataset of the hub to its files on this machine, in huggingface_hub's cache. */
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { cachePaths, type CachePaths, linkBlob, readRef, writeRef } from "./cache.ts";
import { chooseFiles, type FileRules } from "./dataset-files.ts";
import { type DatasetReference, parseDatasetName } from "./dataset-reference.ts";
import { describeFile, downloadBlob } from "./download.ts";
import { checkEndpoint, hubEnvironment, type HubEnvironment } from "./environment.ts";
import { UNREACHABLE } from "./errors.ts";
import { ask } from "./http.ts";
import { isCommit } from "./reference.ts";
import { hostOf } from "./url.ts";

/** A file of a dataset on this machine. */
export interface ResolvedFile {
  readonly path: string;
  /** `hf://org/name/train.parquet`. */
  readonly name: string;
}

const CARD = "README.md";

/** A commit and its files. */
interface Listing {
  readonly sha: string;
  readonly names: readonly string[];
  /** The network is not asked for anything more. */
  readonly cached: boolean;
}

/**
 * Finds the files of a split, and brings those that the cache lacks, each checked by its hash.
 * @param hub for tests; by default as for models
 * @throws ConfigError, DataError, ModelError, QloraError
 */
export async function resolveDataset(
  name: string,
  rules: FileRules,
  hub: HubEnvironment = hubEnvironment(),
): Promise<readonly ResolvedFile[]> {
  const reference = parseDatasetName(name);
  const id = `datasets/${reference.id}`;
  const paths = cachePaths(hub.cacheDir, id);
  const { signal } = new AbortController();
  const listing = await listFiles(hub, reference, paths, signal);
  const { sha, names, cached } = listing;
  const bring = async (file: string): Promise<string> => {
    const path = join(paths.snapshot(sha), file);
    if (existsSync(path)) return path;
    if (cached) throw offline(reference, hub, `${file} is missing`);
    const context = { hub, paths, signal, onBytes: () => {} };
    const remote = await describeFile(context, id, sha, file);
    await downloadBlob(context, remote);
    await linkBlob(paths, sha, file, remote.hash);
    return path;
  };
  const card = names.includes(CARD) ? await readFile(await bring(CARD), "utf8") : undefined;
  const files: ResolvedFile[] = [];
  for (const file of await chooseFiles(reference, names, card, rules))
    files.push({ path: await bring(file), name: `hf://${reference.id}/${file}` });
  if (!cached) await writeRef(paths, reference.revision, sha);
  return files;
}

const offline = ({ id, revision }: DatasetReference, { cacheDir }: HubEnvironment, lacks: string): ModelError =>
  new ModelError("HUB_OFFLINE", `datasets/${id} at ${revision} is not in the cache ${cacheDir}: ${lacks}`, {
    hint: "It cannot be downloaded offline: go online once (without HF_HUB_OFFLINE), or name files on this machine.",
  });

async function listFiles(
  hub: HubEnvironment,
  reference: DatasetReference,
  paths: CachePaths,
  signal: AbortSignal,
): Promise<Listing> {
  const atHand = await cachedFiles(paths, reference.revision);
  if (hub.offline) {
    if (atHand !== undefined) return atHand;
    throw offline(reference, hub, "it was never downloaded");
  }
  checkEndpoint(hub);
  const { id, revision } = reference;
  const url = `${hub.endpoint}/api/datasets/${id}/revision/${encodeURIComponent(revision)}`;
  try {
    const response = await ask(hub, { id: `datasets/${id}`, revision }, url, { signal });
    const answer: unknown = await response.json().catch(() => undefined);
    const { sha, siblings } = isObject(answer) ? answer : {};
    if (typeof sha === "string" && isCommit(sha) && Array.isArray(siblings)) {
      const names = siblings.map((file: unknown) => (isObject(file) ? String(file["rfilename"]) : ""));
      return { sha, names: names.filter(isInside), cached: false };
    }
  } catch (error) {
    if (!(error instanceof ModelError) || error.code !== UNREACHABLE || atHand === undefined) throw error;
    return atHand;
  }
  throw new ModelError(
    "HUB_FAILED",
    `${hostOf(hub.endpoint)} does not answer as the hub does when asked for datasets/${id}`,
    {
      hint: "Check HF_ENDPOINT, and that no sign-in page of a network stands in between.",
    },
  );
}

/** A path that stays below the folder that it is put into. */
const isInside = (name: string): boolean =>
  name !== "" && !name.startsWith("/") && name.split(/[\\/]/).every((part) => part !== ".." && part !== "");

async function cachedFiles(paths: CachePaths, revision: string): Promise<Listing | undefined> {
  const sha = await readRef(paths, revision);
  if (sha === undefined || !existsSync(paths.snapshot(sha))) return undefined;
  const names = (readdirSync(paths.snapshot(sha), { recursive: true }) as string[]).map((name) =>
    name.replaceAll("\\", "/"),
  );
  return { sha, names, cached: true };
}
