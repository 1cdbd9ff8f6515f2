/** Which files of a dataset's repository make a config and a split, as Hugging Face's datasets finds them: by its card, else by names. */
import { DataError } from "../../core/errors.ts";
import { isObject } from "../../core/formats/json-object.ts";
import { loadPackage } from "../packages.ts";
import type { DatasetReference } from "./dataset-reference.ts";

/** How files are told. */
export interface FileRules {
  /** Whether a file holds rows. */
  readonly isRows: (name: string) => boolean;
  /** The split that a file's name tells. */
  readonly splitOf: (name: string) => string | undefined;
  /** The split that is meant where none is named and there are several. */
  readonly defaultSplit: string | undefined;
}

/** Splits by their names, each with its files. */
type Splits = ReadonlyMap<string, readonly string[]>;

const CARD_HINT = "Name a config and a split: hf://org/name/config:split";

/** Files of the split, in the order of their names. @param card README.md, where there is one @throws DataError listing what there is */
export async function chooseFiles(
  { id, part, split }: DatasetReference,
  names: readonly string[],
  card: string | undefined,
  rules: FileRules,
): Promise<readonly string[]> {
  const file = `hf://${id}`;
  const refuse = (message: string): DataError =>
    new DataError("DATASET_PART_UNKNOWN", message, { file }, { hint: CARD_HINT });
  const rows = names.filter((name) => rules.isRows(name) && !/(^|\/)\./.test(name));
  if (part !== undefined && rows.includes(part)) return [part];
  if (rows.length === 0) throw refuse("the dataset has no files of rows (CSV, JSON, JSONL, Parquet)");
  const splits = splitsOf(await cardConfigs(card, file), { part, rows, rules, refuse });
  const [only] = splits.keys();
  const wanted = split ?? (splits.size === 1 ? only : rules.defaultSplit);
  const found = wanted === undefined ? undefined : splits.get(wanted);
  if (found !== undefined) return found.toSorted();
  const known = [...splits.keys()].join(", ");
  throw refuse(
    split === undefined
      ? `the dataset has the splits ${known}; name one`
      : `the dataset has no split ${split}, but ${known}`,
  );
}

interface Choice {
  readonly part: string | undefined;
  readonly rows: readonly string[];
  readonly rules: FileRules;
  readonly refuse: (message: string) => DataError;
}

/** A config of a card: which patterns make which split. */
interface CardConfig {
  readonly name: string;
  readonly isDefault: boolean;
  readonly folder: string | undefined;
  readonly splits: ReadonlyMap<string, readonly string[]> | undefined;
}

function splitsOf(configs: readonly CardConfig[], choice: Choice): Splits {
  const { part, rows, refuse } = choice;
  if (configs.length === 0) {
    if (part === undefined) return byName(rows, choice);
    const own = rows.filter((name) => name.split("/").slice(0, -1).includes(part));
    if (own.length > 0) return byName(own, choice);
    const folders = [...new Set(rows.flatMap((name) => name.split("/").slice(0, -1)))];
    throw refuse(
      `the dataset has no config ${part}${folders.length === 0 ? "" : `; its folders are ${folders.join(", ")}`}`,
    );
  }
  const [first] = configs;
  const standard = configs.find(({ isDefault }) => isDefault) ?? configs.find(({ name }) => name === "default");
  const config =
    part === undefined
      ? (standard ?? (configs.length === 1 ? first : undefined))
      : configs.find(({ name }) => name === part);
  if (config === undefined) {
    const known = configs.map(({ name }) => name).join(", ");
    throw refuse(
      part === undefined
        ? `the dataset has the configs ${known}; name one`
        : `the dataset has no config ${part}, but ${known}`,
    );
  }
  const { folder, splits } = config;
  const inside = folder === undefined ? rows : rows.filter((name) => name.startsWith(`${folder}/`));
  if (splits === undefined) return byName(inside, choice);
  return new Map(
    [...splits].map(([split, patterns]) => {
      const expressions = patterns.map((pattern) => patternOf(folder === undefined ? pattern : `${folder}/${pattern}`));
      return [split, rows.filter((name) => expressions.some((expression) => expression.test(name)))] as const;
    }),
  );
}

/** Splits that names tell; where none does, all files are train. */
function byName(rows: readonly string[], { rules }: Choice): Splits {
  const splits = new Map<string, string[]>();
  for (const name of rows) {
    const split = rules.splitOf(name);
    if (split !== undefined) splits.set(split, [...(splits.get(split) ?? []), name]);
  }
  return splits.size === 0 ? new Map([["train", rows]]) : splits;
}

/** A pattern of a card: `*` and `?` within a folder, `**` over folders, `[ab]`. */
function patternOf(pattern: string): RegExp {
  const source = pattern.replaceAll(/\*\*\/?|\*|\?|\[[^\]]*\]|[.+^${}()|\\]/g, (token) => {
    if (token.startsWith("**")) return ".*";
    if (token === "*") return "[^/]*";
    if (token === "?") return "[^/]";
    return token.startsWith("[") ? token : `\\${token}`;
  });
  return new RegExp(`^${source.replace(/^\.\//, "")}$`);
}

/** `configs` of a card's YAML. @throws DataError for what is no YAML */
async function cardConfigs(card: string | undefined, file: string): Promise<readonly CardConfig[]> {
  const head = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card ?? "")?.[1];
  if (head === undefined) return [];
  const { parse } = await loadPackage(import("yaml"), {
    name: "yaml",
    task: `reading the card of ${file}`,
    hint: "Reinstall the packages, or name a file: hf://org/name/path/to/file.parquet",
  });
  let read: unknown;
  try {
    read = parse(head);
  } catch (cause) {
    throw new DataError(
      "DATASET_CARD_INVALID",
      `the head of its README.md is no YAML: ${(cause as Error).message}`,
      { file },
      {
        hint: "Name a file of it: hf://org/name/path/to/file.parquet",
        cause,
      },
    );
  }
  const configs: unknown = isObject(read) ? read["configs"] : undefined;
  if (!Array.isArray(configs)) return [];
  return configs.filter(isObject).map((config) => ({
    name: textOr(config["config_name"], "default"),
    isDefault: config["default"] === true,
    folder: typeof config["data_dir"] === "string" ? config["data_dir"].replace(/^\.?\/|\/$/g, "") : undefined,
    splits: patternsOf(config["data_files"]),
  }));
}

const textOr = (value: unknown, other: string): string => (typeof value === "string" ? value : other);
const listOf = (value: unknown): string[] =>
  (Array.isArray(value) ? value : [value]).filter((item): item is string => typeof item === "string");

/** Patterns by split: one, a list of them (train), a list of {split, path}, or an object of splits. */
function patternsOf(files: unknown): ReadonlyMap<string, readonly string[]> | undefined {
  if (files === undefined || files === null) return undefined;
  if (Array.isArray(files) && files.some(isObject))
    return new Map(files.filter(isObject).map((entry) => [textOr(entry["split"], "train"), listOf(entry["path"])]));
  if (isObject(files)) return new Map(Object.entries(files).map(([split, paths]) => [split, listOf(paths)]));
  return new Map([["train", listOf(files)]]);
}
