/** The files that the data options name: files, folders of shards, patterns, members of archives. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DataError } from "../../../core/errors.ts";
import { isFolder } from "../../files/stat.ts";
import { isDatasetName, resolveDataset } from "../../hub/index.ts";
import { loadPackage } from "../../packages.ts";
import { type DataFile, ROW_FILE } from "./data-file.ts";
import { splitOf } from "./splits.ts";

/** Archives count by what they may hold. */
const isRowFile = (name: string): boolean => ROW_FILE.test(name.replace(/\.zip$/i, ".csv"));

const plain = (path: string): DataFile => ({ path, name: path, member: undefined });

/**
 * @param defaultSplit of a dataset that has several, where none is named
 * Files in the order in which their rows are numbered: those of a folder and of a pattern by name.
 * @throws DataError for a folder or a pattern without any, and for a folder of several splits
 */
export async function expandFiles(names: readonly string[], defaultSplit?: string): Promise<readonly DataFile[]> {
  const files: DataFile[] = [];
  for (const name of names) files.push(...(await expandName(name, defaultSplit)));
  return files;
}

async function expandName(name: string, defaultSplit: string | undefined): Promise<readonly DataFile[]> {
  if (isDatasetName(name)) {
    const files = await resolveDataset(name, { isRows: isRowFile, splitOf, defaultSplit });
    return files.map((file) => ({ ...file, member: undefined }));
  }
  if (isFolder(name)) return shardsOf(name).map(plain);
  if (existsSync(name)) return [plain(name)];
  const [, archive, member] = /^(.*?\.zip)#(.+)$/i.exec(name) ?? [];
  if (archive !== undefined && existsSync(archive)) return [{ path: archive, name, member }];
  return /[*?[\]{}]/.test(name) ? (await matching(name)).map(plain) : [plain(name)];
}

/** Files of rows that lie in a folder, by name. */
function shardsOf(folder: string): string[] {
  const names = readdirSync(folder)
    .filter((name) => !/^[._]/.test(name) && isRowFile(name))
    .sort();
  if (names.length === 0) {
    throw new DataError(
      "DATA_FILE_MISSING",
      "the folder has no files of rows",
      { file: folder },
      {
        hint: "Files of rows end in .csv, .json, .jsonl, .ndjson or .parquet, and .gz or .zip after that.",
      },
    );
  }
  const splits = new Map<string | undefined, string[]>();
  for (const name of names) splits.set(splitOf(name), [...(splits.get(splitOf(name)) ?? []), name]);
  if (splits.size > 1) {
    const found = [...splits].map(([split, own]) => `${split ?? "no split"} (${own.slice(0, 3).join(", ")})`);
    throw new DataError(
      "DATA_SPLITS_MIXED",
      `the folder has files of several splits: ${found.join("; ")}`,
      { file: folder },
      {
        hint: `Name those that are meant: ${join(folder, `${names.find((own) => splitOf(own) === "train") === undefined ? "*" : "train*"}`)}`,
      },
    );
  }
  return names.map((name) => join(folder, name));
}

async function matching(pattern: string): Promise<string[]> {
  const { glob } = await loadPackage(import("tinyglobby"), {
    name: "tinyglobby",
    task: `looking for ${pattern}`,
    hint: "Reinstall the packages, or name each file.",
  });
  const found = await glob(pattern, { absolute: pattern.startsWith("/"), expandDirectories: false });
  if (found.length > 0) return found.sort();
  throw new DataError(
    "DATA_FILE_MISSING",
    "no file matches the pattern",
    { file: pattern },
    {
      hint: "Check the path; relative paths start at the current folder, ** stands for any folders.",
    },
  );
}
