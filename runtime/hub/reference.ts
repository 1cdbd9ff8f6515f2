/** What names a checkpoint: a folder, or a model of the hub. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { isFolder } from "../files/stat.ts";

/** `org/name`, as the hub spells it. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** True for `org/name`, as the hub spells it. */
export const isHubId = (text: string): boolean => HUB_ID.test(text);

/** True for what can only be a name on the hub: no folder here is called so. */
export const isHubName = (text: string): boolean => HUB_ID.test(text) && !existsSync(text);

/** A folder on this machine, or a model of the hub. */
export type CheckpointReference =
  | { readonly kind: "folder"; readonly directory: string }
  | { readonly kind: "hub"; readonly id: string };

/** True for a full commit sha, which always means the same files. */
export const isCommit = (revision: string): boolean => COMMIT.test(revision);

/**
 * Tells a folder from a hub id; a folder that exists wins.
 * @throws ConfigError where it is neither
 */
export function parseReference(idOrFolder: string): CheckpointReference {
  if (isFolder(idOrFolder)) return { kind: "folder", directory: idOrFolder };
  if (HUB_ID.test(idOrFolder)) return { kind: "hub", id: idOrFolder };
  throw new ConfigError("CHECKPOINT_NOT_FOUND", `checkpoint: there is no folder ${JSON.stringify(idOrFolder)}`, {
    hint: "Give the folder of a checkpoint, or a model of the hub as org/name.",
  });
}

/**
 * True where `text` can only mean a checkpoint, not a plugin: a folder that is no package, a path that is no source file, or a
 * hub id.
 */
export function looksLikeCheckpoint(text: string): boolean {
  if (isFolder(text)) return existsSync(join(text, "config.json")) || !existsSync(join(text, "package.json"));
  if (!text.includes("/") || text.startsWith("@") || text.startsWith("file:")) return false;
  return !/\.[cm]?[jt]sx?(#.*)?$/.test(text);
}

/** @throws ConfigError where `revision` cannot be a branch, a tag or a commit */
export function checkRevision(revision: string): void {
  const parts = revision.split("/");
  if (/^[\w./-]+$/.test(revision) && parts.every((part) => part !== "" && part !== "." && part !== "..")) return;
  throw new ConfigError(
    "REVISION_INVALID",
    `revision: got ${JSON.stringify(revision)}, expected a branch, a tag or a commit`,
  );
}
