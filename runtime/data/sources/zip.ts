/** The file of rows in a zip archive. */
import type { unzipSync } from "fflate";
import { DataError } from "../../../core/errors.ts";
import { loadPackage } from "../../packages.ts";
import { type DataFile, ROW_FILE } from "./data-file.ts";

interface Unzip {
  readonly unzipSync: typeof unzipSync;
}

/**
 * The member that is asked for, else the only one that holds rows; nothing else is unpacked.
 * @throws DataError where there is none, or several
 */
export async function unzipMember(
  { name, member }: DataFile,
  bytes: Uint8Array,
): Promise<{ readonly name: string; readonly bytes: Buffer }> {
  const { unzipSync: unzip } = await loadPackage<Unzip>(import("fflate"), {
    name: "fflate",
    task: `unpacking ${name}`,
    hint: "Reinstall the packages, or unpack the archive yourself.",
  });
  const file = member === undefined ? name : name.slice(0, -member.length - 1);
  const unpack = (wanted: (path: string) => boolean): Readonly<Record<string, Uint8Array>> => {
    try {
      return unzip(bytes, { filter: ({ name: path }) => wanted(path) });
    } catch (cause) {
      const message = `the zip archive cannot be unpacked: ${(cause as Error).message}`;
      throw new DataError(
        "DATA_ARCHIVE_DAMAGED",
        message,
        { file },
        { hint: `Make or download it again; or unzip ${file}, where it is encrypted.`, cause },
      );
    }
  };
  const members: string[] = [];
  unpack((path) => {
    members.push(path);
    return false;
  });
  const refuse = (message: string, hint: string): DataError =>
    new DataError("DATA_ARCHIVE_MEMBERS", message, { file }, { hint });
  if (members.some((path) => /^xl\/|^\[Content_Types\]\.xml$/.test(path)))
    throw new DataError(
      "DATA_FILE_KIND",
      "is an Excel workbook, expected a CSV, JSON, JSONL or Parquet file",
      { file },
      { hint: "Save it as CSV (UTF-8)." },
    );
  const held = members.filter((path) => ROW_FILE.test(path) && !/^__MACOSX\/|(^|\/)\./.test(path));
  const found = `found ${members.length === 0 ? "nothing" : members.slice(0, 8).join(", ")}${members.length > 8 ? ", ..." : ""}`;
  const chosen = member === undefined ? held : members.filter((path) => path === member);
  const [only] = chosen;
  if (only === undefined) {
    const wanted =
      member === undefined ? "no file of rows (CSV, JSON, JSONL, Parquet)" : `no file ${JSON.stringify(member)}`;
    throw refuse(`the archive has ${wanted}; ${found}`, `Name one of its files: ${file}#${held[0] ?? "train.csv"}`);
  }
  if (chosen.length > 1)
    throw refuse(
      `the archive has ${held.length} files of rows: ${held.slice(0, 8).join(", ")}`,
      `Name the one that is meant: ${file}#${only}`,
    );
  const content = unpack((path) => path === only)[only]!;
  return { name: `${file}#${only}`, bytes: Buffer.from(content.buffer, content.byteOffset, content.byteLength) };
}
