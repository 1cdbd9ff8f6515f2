/** What a file is by its first bytes, where it is not what it is taken for: a message names it, and the hint converts it. */
import type { ByteSource, Folder } from "./bytes.ts";

/** Something that files are mistaken for. */
export interface FileKind {
  /** With its article: `a Parquet file`. */
  readonly name: string;
  /** How to make rows of it that are read, in one line. */
  readonly dataHint: string;
  /** How to come by weights. */
  readonly weightsHint: string;
  /** True where such a file is text, so that it is not told by its bytes being none. */
  readonly isText?: true;
}

/** Bytes that tell; a web page may begin with white space and comments. */
const HEAD_BYTES = 1024;

const UNPACK = "Unpack it";
const AGAIN =
  "Download the file again, from a place that gives the file and not a page about it; private models need HF_TOKEN.";
const AS_SAFETENSORS =
  "Only safetensors are read: save it anew with transformers, model.save_pretrained(folder, safe_serialization=True).";
const pandas = (read: string): string =>
  `Convert it: python -c "import pandas as pd; pd.${read}.to_csv('rows.csv', index=False)"`;

const kinds: readonly (FileKind & { readonly starts: readonly string[] })[] = [
  { name: "a Parquet file", starts: ["PAR1"], dataHint: "It does not end as a Parquet file does: download or write it again.", weightsHint: AS_SAFETENSORS },
  { name: "an Arrow or Feather file", starts: ["ARROW1", "FEA1"], dataHint: pandas("read_feather('FILE')"), weightsHint: AS_SAFETENSORS },
  { name: "a gzip archive", starts: ["\x1f\x8b"], dataHint: `${UNPACK}: gunzip FILE`, weightsHint: `${UNPACK}: gunzip FILE` },
  { name: "a zstd archive", starts: ["\x28\xb5\x2f\xfd"], dataHint: `${UNPACK}: unzstd FILE`, weightsHint: `${UNPACK}: unzstd FILE` },
  { name: "an xz archive", starts: ["\xfd7zXZ\0"], dataHint: `${UNPACK}: unxz FILE`, weightsHint: `${UNPACK}: unxz FILE` },
  { name: "a bzip2 archive", starts: ["BZh"], dataHint: `${UNPACK}: bunzip2 FILE`, weightsHint: `${UNPACK}: bunzip2 FILE` },
  { name: "a 7z archive", starts: ["7z\xbc\xaf\x27\x1c"], dataHint: `${UNPACK}: 7z x FILE`, weightsHint: `${UNPACK}: 7z x FILE` },
  {
    name: "a pointer of git-lfs, not the file itself",
    isText: true,
    starts: ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"],
    dataHint: "Fetch the file: git lfs pull, in the folder of the clone.",
    weightsHint: "Fetch the files: git lfs pull, in the folder of the clone; or name the model by its hub id.",
  },
  { name: "an old Excel workbook", starts: ["\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"], dataHint: pandas("read_excel('FILE')"), weightsHint: AGAIN },
  { name: "an HDF5 file", starts: ["\x89HDF\r\n\x1a\n"], dataHint: pandas("read_hdf('FILE')"), weightsHint: AS_SAFETENSORS },
  { name: "a NumPy array", starts: ["\x93NUMPY"], dataHint: "Write its rows as CSV or JSONL.", weightsHint: AS_SAFETENSORS },
  { name: "an SQLite database", starts: ["SQLite format 3\0"], dataHint: "Write the rows of its table: sqlite3 -header -csv FILE 'select * from TABLE'", weightsHint: AGAIN },
  { name: "a GGUF file", starts: ["GGUF"], dataHint: "Data files are CSV, JSON, JSONL or Parquet.", weightsHint: "Only safetensors are read: name the model's repository in transformers' format." },
  { name: "a PDF file", starts: ["%PDF-"], dataHint: "Data files are CSV, JSON, JSONL or Parquet.", weightsHint: AGAIN },
]; // prettier-ignore

const ZIP: FileKind = {
  name: "a zip archive",
  dataHint: `${UNPACK}: unzip FILE. Where it is an Excel workbook, save it as CSV (UTF-8).`,
  weightsHint: `${UNPACK}: unzip FILE`,
};
const PICKLE: FileKind = {
  name: "a Python pickle",
  dataHint: pandas("read_pickle('FILE')"),
  weightsHint: `A pickle may run code when it is loaded. ${AS_SAFETENSORS}`,
};
const PAGE: FileKind = { name: "a web page (HTML)", isText: true, dataHint: AGAIN, weightsHint: AGAIN };

const utf = (name: string): FileKind => ({
  name,
  dataHint: `Save it as UTF-8: iconv -f ${name} -t UTF-8 FILE > rows.csv`,
  weightsHint: AGAIN,
});

/** Text of two or four bytes a character: by its mark, else by zeros in every other byte. */
function wideText(head: Uint8Array): FileKind | undefined {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, i) => head[i] === byte);
  if (starts(0xff, 0xfe, 0, 0) || starts(0, 0, 0xfe, 0xff)) return utf("UTF-32");
  if (starts(0xff, 0xfe) || starts(0xfe, 0xff)) return utf("UTF-16");
  const seen = head.subarray(0, 64 & ~1);
  if (seen.length < 8 || seen.length % 2 === 1) return undefined;
  const zeros = (parity: number): number => seen.filter((byte, i) => i % 2 === parity && byte === 0).length;
  const half = seen.length / 2;
  if (zeros(1) === half && zeros(0) === 0) return utf("UTF-16LE");
  return zeros(0) === half && zeros(1) === 0 ? utf("UTF-16BE") : undefined;
}

/** What the first bytes of a file say that it is; undefined for what they do not tell. */
export function fileKind(head: Uint8Array): FileKind | undefined {
  const bytes = head.subarray(0, HEAD_BYTES);
  const text = String.fromCharCode(...bytes); // one character a byte
  const known = kinds.find(({ starts }) => starts.some((start) => text.startsWith(start)));
  if (known !== undefined) return known;
  // torch.save writes a zip whose first entry is its pickle.
  if (["PK\x03\x04", "PK\x05\x06", "PK\x07\x08"].some((start) => text.startsWith(start)))
    return text.includes("/data.pkl") || text.includes("/.format_version") ? PICKLE : ZIP;
  if (bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5) return PICKLE;
  if (/^(\xef\xbb\xbf)?\s*(<!--[\s\S]*?-->\s*)*<(!doctype\s+html|html|head)[\s>]/i.test(text)) return PAGE;
  return wideText(bytes);
}

/** As {@link fileKind}, of a file; undefined where there is none, or it cannot be read: what opens it next says why. */
export async function kindOfFile(folder: Folder, file: string): Promise<FileKind | undefined> {
  const source = await folder.open(file).catch(() => undefined);
  if (source === undefined) return undefined;
  try {
    return await kindOf(source);
  } finally {
    await source.close();
  }
}

/** As {@link fileKind}, of what is open. */
export async function kindOf(source: ByteSource): Promise<FileKind | undefined> {
  return fileKind(await source.read(0, Math.min(HEAD_BYTES, source.size)));
}

/** A hint with the file's own name in it. */
export const hintFor = (hint: string, path: string): string => hint.replaceAll("FILE", path);
