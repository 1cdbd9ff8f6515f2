/**
 * manifest.json of a checkpoint and of a finished adapter: which files belong to it with their sha256, the step, and the
 * line of the run that it lies on. It is written last: a folder without it is not whole.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { isObject, parseJsonObject } from "../../core/formats/json-object.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MODEL_CARD_FILE } from "../../core/formats/peft.ts";
import { writeFileAtomic } from "../files/files.ts";
import { digestFile, type FileDigest } from "../files/stat.ts";
import { isLineage, type Lineage } from "./lineage.ts";

export const MANIFEST_FILE = "manifest.json";

/** What an adapter is read from. */
export const ADAPTER_FILES: readonly string[] = [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE];

/** What a manifest says. */
export interface Manifest {
  readonly version: 1;
  /** Optimizer steps done. */
  readonly step: number;
  readonly lineage: Lineage;
  /** By path in the folder. */
  readonly files: Readonly<Record<string, FileDigest>>;
}

/** Writes the manifest of files that lie in a folder; all that it holds where none are named. */
export async function writeManifest(
  directory: string,
  { step, lineage }: Pick<Manifest, "step" | "lineage">,
  names?: readonly string[],
): Promise<void> {
  const files: [string, FileDigest][] = [];
  for (const name of names ?? (await filesBelow(directory)))
    files.push([name, await digestFile(join(directory, name))]);
  const content = { version: 1, step, lineage, files: Object.fromEntries(files) } as const;
  await writeFileAtomic(join(directory, MANIFEST_FILE), formatManifest(content));
}

/** The last line holds the sha256 of what stands above it; every byte is what this gives. */
function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify({ ...manifest, sha256: checksum(manifest) }, null, 2)}\n`;
}

const checksum = (manifest: Manifest): string => createHash("sha256").update(JSON.stringify(manifest)).digest("hex");

/**
 * The manifest of a folder; undefined where there is none.
 * @throws ModelError MANIFEST_DAMAGED
 */
export async function readManifest(directory: string): Promise<Manifest | undefined> {
  const path = join(directory, MANIFEST_FILE);
  if (!existsSync(path)) return undefined;
  const refuse = (problem: string, cause?: unknown): ModelError =>
    new ModelError("MANIFEST_DAMAGED", `${path}: ${problem}`, { cause, hint: DAMAGED_HINT });
  const bytes = await readFile(path);
  const { sha256: _, ...rest } = parseJsonObject(bytes, refuse);
  if (rest["version"] !== 1) throw refuse(`version ${JSON.stringify(rest["version"])}, expected 1`);
  if (!isManifest(rest) || !bytes.equals(Buffer.from(formatManifest(rest))))
    throw refuse("is not what its checksum stands for: it was changed or damaged after it was saved");
  return rest;
}

const DAMAGED_HINT =
  "qlora verify RUN tells what of a run is whole; go on from a whole checkpoint with --resume-from-checkpoint FOLDER.";

function isManifest(value: Readonly<Record<string, unknown>>): value is Readonly<Record<string, unknown>> & Manifest {
  const { step, lineage, files } = value;
  return (
    Number.isSafeInteger(step) &&
    (step as number) >= 0 &&
    isLineage(lineage) &&
    isObject(files) &&
    Object.entries(files).every(
      ([name, file]) => isInside(name) && isObject(file) && typeof file["sha256"] === "string",
    )
  );
}

const isInside = (name: string): boolean => !/^([/\\]|[A-Za-z]:)/.test(name) && !name.split(/[\\/]/).includes("..");

/** A file that is not what the manifest says. */
export interface ManifestProblem {
  readonly file: string;
  readonly kind: "missing" | "changed";
  readonly message: string;
}

/** What of a folder is not as its manifest says. @param names files to look at; default: all */
export async function manifestProblems(
  directory: string,
  { files }: Manifest,
  names: readonly string[] = Object.keys(files),
): Promise<ManifestProblem[]> {
  const problems: ManifestProblem[] = [];
  for (const name of names) {
    const path = join(directory, name);
    const saved = Object.hasOwn(files, name) ? files[name] : undefined;
    const found = await stat(path).catch(() => undefined);
    const tell = (kind: ManifestProblem["kind"], what: string): void =>
      void problems.push({ file: name, kind, message: `${path}: ${what}` });
    if (saved === undefined) tell("missing", `is not named in ${MANIFEST_FILE}`);
    else if (found?.isFile() !== true) tell("missing", `is missing, ${MANIFEST_FILE} names it`);
    else if (found.size !== saved.bytes) tell("changed", `has ${found.size} bytes, ${saved.bytes} were saved`);
    else if ((await digestFile(path)).sha256 !== saved.sha256) {
      tell("changed", `its sha256 is not that of ${MANIFEST_FILE}: it was changed or damaged after it was saved`);
    }
  }
  return problems;
}

/**
 * Refuses a folder of which a file that is to be used is missing, changed or damaged.
 * @param names files that are to be used; default: all but the model card
 * @throws ModelError CHECKPOINT_DAMAGED naming every one
 */
export async function requireWhole(directory: string, manifest: Manifest, names?: readonly string[]): Promise<void> {
  const used = names ?? Object.keys(manifest.files).filter((name) => name !== MODEL_CARD_FILE);
  const problems = await manifestProblems(directory, manifest, used);
  if (problems.length === 0) return;
  throw new ModelError("CHECKPOINT_DAMAGED", problems.map(({ message }) => message).join("; "), {
    hint: `${DAMAGED_HINT} What you changed yourself: copy the adapter's two files to a folder of their own.`,
  });
}

/** Files of a folder and of those in it, sorted; the manifest is none of them. */
async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
  return paths.filter((path) => path !== MANIFEST_FILE).sort();
}
