/**
 * huggingface_hub's cache: contents in blobs/<hash>, a commit's files as links in snapshots/<commit>/, and what a branch or
 * tag meant when it was last asked for in refs/<name>.
 */
import { existsSync } from "node:fs";
import { lstat, readFile, readlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { hardlink, makeFolder, remove, rename, symlink } from "../files/disk.ts";
import { explainWriteErrors, writeFileAtomic } from "../files/files.ts";
import { isCommit } from "./reference.ts";

/** Paths of one model in the cache. */
export interface CachePaths {
  readonly blobs: string;
  blob(hash: string): string;
  snapshot(commit: string): string;
  ref(revision: string): string;
  lock(hash: string): string;
}

export function cachePaths(cacheDir: string, id: string): CachePaths {
  const parts = id.split("/");
  // A dataset is known by what its address begins with.
  const folder = (parts.length === 3 && parts[0] === "datasets" ? parts : ["models", ...parts]).join("--");
  const model = join(cacheDir, folder);
  return {
    blobs: join(model, "blobs"),
    blob: (hash) => join(model, "blobs", hash),
    snapshot: (commit) => join(model, "snapshots", commit),
    ref: (revision) => join(model, "refs", revision),
    lock: (hash) => join(cacheDir, ".locks", folder, `${hash}.lock`),
  };
}

/** The commit that `revision` meant when it was last asked for. */
export async function readRef(paths: CachePaths, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const path = paths.ref(revision);
  if (!existsSync(path)) return undefined;
  const commit = (await readFile(path, "utf8")).trim();
  return isCommit(commit) ? commit : undefined;
}

/** Remembers which commit `revision` means. */
export async function writeRef(paths: CachePaths, revision: string, commit: string): Promise<void> {
  if (revision !== commit && (await readRef(paths, revision)) !== commit)
    await writeFileAtomic(paths.ref(revision), commit);
}

/** Shows a whole blob as `name` of a commit. */
export async function linkBlob(paths: CachePaths, commit: string, name: string, hash: string): Promise<void> {
  const path = join(paths.snapshot(commit), name);
  const blob = paths.blob(hash);
  const target = relative(dirname(path), blob);
  await explainWriteErrors(path, async () => {
    if ((await readlink(path).catch(() => undefined)) === target) return;
    await makeFolder(dirname(path));
    const aside = `${path}.${process.pid}.tmp`;
    await remove(aside);
    await symlink(target, aside).catch(() => hardlink(blob, aside)); // Windows lets only some users make symbolic links
    await rename(aside, path);
    if (await lstat(aside).catch(() => undefined)) await remove(aside); // rename leaves two links of one file alone
  });
}
