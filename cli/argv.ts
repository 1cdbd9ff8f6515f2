/** Strict reading of a command's arguments: every flag is known, has the value it needs, and fits its option. */
import { formatValue } from "../core/options/describe.ts";
import type { Checked, Option, OptionShape } from "../core/options/options.ts";
import { isSwitch, readOptionText, takesValue } from "../core/options/parse.ts";
import { nearestName } from "../core/util/suggest.ts";
import { theirName } from "../core/util/their-names.ts";

/** Options that a command takes as flags. */
export interface FlagGroup {
  /** Heading in the help text. */
  readonly title: string;
  /** Section of the config that they belong to, and prefix of the long spelling: `--adapter.rank`. */
  readonly section: string;
  /** Also without the prefix: `--learning-rate`. */
  readonly flat: boolean;
  readonly shape: OptionShape;
  /** What is not given is taken from a run's record, so the options' own defaults say nothing. */
  readonly recorded?: boolean;
}

/** One of the command's own flags, such as `--json`. */
export interface OwnFlag {
  readonly name: string;
  readonly takesValue: boolean;
  /** Given several times, the values are joined by spaces; otherwise the last one counts. */
  readonly repeatable?: boolean | undefined;
  /** Words allowed, where it is a choice. */
  readonly choices?: readonly string[] | undefined;
  /** One letter: `h` for `-h`. */
  readonly letter?: string | undefined;
}

/** Values of the groups' options by section and key. */
export type SectionValues = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface ParsedArguments {
  /** The command's own flags and the positionals, in the one spelling that citty reads without surprises. */
  readonly canonical: readonly string[];
  readonly positionals: readonly string[];
  readonly values: SectionValues;
  readonly problems: readonly string[];
  /** `section.key` of every option whose flag was given badly. */
  readonly failed: ReadonlySet<string>;
}

type Target = { readonly own: OwnFlag } | { readonly group: FlagGroup; readonly key: string; readonly option: Option };

export const toKebab = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export const toCamel = (name: string): string =>
  name.replaceAll(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

function flagTable(own: readonly OwnFlag[], groups: readonly FlagGroup[]): Map<string, Target> {
  const table = new Map<string, Target>();
  for (const group of groups) {
    for (const [key, option] of Object.entries(group.shape)) {
      table.set(`${group.section}.${key}`, { group, key, option });
      if (group.flat) table.set(key, { group, key, option });
    }
  }
  for (const flag of own) table.set(toCamel(flag.name), { own: flag });
  return table;
}

/** Names of nobody's class that peft's examples use all the same. */
const BY_HABIT: ReadonlyMap<string, string> = new Map([["lora-r", "r"]]);

/** The flag of an option as `section.option`; undefined where this command has none. */
function flagOf(ours: string, table: ReadonlyMap<string, Target>): string | undefined {
  const [section = "", option] = ours.split(".");
  const found = [option, option && `${section}.${option}`, option === undefined ? section : undefined].find(
    (name) => name !== undefined && table.has(name),
  );
  return found && `--${toKebab(found)}`;
}

function unknownFlag(token: string, table: ReadonlyMap<string, Target>): string {
  const written = token.replace(/^--?/, "").replaceAll("_", "-");
  const bare = written.replace(/^(?:adapter|training|optimizer)\./, "");
  const theirs = theirName(BY_HABIT.get(bare) ?? bare);
  const shown = token.length > 80 ? `${token.slice(0, 77)}...` : token;
  if (theirs !== undefined && theirs.ours === undefined)
    return `${shown}: ${theirs.library} has this flag, qlora has not; ${theirs.note}`;
  const known = theirs?.ours === undefined ? undefined : flagOf(theirs.ours, table);
  const names = [...table.keys()].map((name) => `--${toKebab(name)}`);
  const exact =
    known ?? names.find((name) => name === `--${written}`) ?? names.find((name) => name.endsWith(`.${written}`));
  const near = exact ?? nearestName(token, names);
  const note = known === undefined || theirs?.note === undefined ? "" : ` (${theirs.note})`;
  return `${shown}: unknown flag${near === undefined ? "" : `; did you mean "${near}"?${note}`}`;
}

/** A flag, known or not: `-1` and `-` are none. */
const FLAG = /^(?:-[a-zA-Z]|--[^\s-])/;

/** True for a token that cannot be the value of the flag before it. */
const isFlag = (token: string): boolean => FLAG.test(token) || token === "--";

/** True for the word after a flag that may stand alone, as in `--shuffle false`. */
const isTruth = (token: string): boolean => /^(true|false)$/i.test(token);

/** What `--name`, `--no-name` or `-n` means; undefined where it is not known. */
function findFlag(
  written: string,
  table: ReadonlyMap<string, Target>,
  letters: ReadonlyMap<string, string>,
): { readonly target: Target; readonly denied: boolean } | undefined {
  const name = written.startsWith("--") ? written.slice(2) : letters.get(written.slice(1));
  if (name === undefined) return undefined;
  const target = table.get(toCamel(name));
  if (target !== undefined) return { target, denied: false };
  const positive = name.startsWith("no-") ? table.get(toCamel(name.slice(3))) : undefined;
  return positive && { target: positive, denied: true };
}

/** Reads `argv` against a command's own flags and its groups of options; problems are collected, never thrown. */
export function parseArguments(
  argv: readonly string[],
  own: readonly OwnFlag[],
  groups: readonly FlagGroup[],
): ParsedArguments {
  const table = flagTable(own, groups);
  const letters = new Map(own.flatMap((flag) => (flag.letter === undefined ? [] : [[flag.letter, flag.name]])));
  const canonical: string[] = [];
  const positionals: string[] = [];
  const problems: string[] = [];
  const values: Record<string, Record<string, unknown>> = {};
  const failed = new Set<string>();

  for (let i = 0; i < argv.length; i++) {
    const token = argv[i]!;
    if (token === "--") {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (!FLAG.test(token)) {
      positionals.push(token);
      continue;
    }
    const [written, inline] = splitOnce(token, "=");
    const next = argv[i + 1];
    const mayTakeNext = inline === undefined && next !== undefined && !isFlag(next);
    const found = findFlag(written, table, letters);
    if (found === undefined) {
      problems.push(unknownFlag(written, table));
      if (mayTakeNext) i++; // very likely its value
      continue;
    }
    const { target, denied } = found;
    const standsAlone = "own" in target ? !target.own.takesValue : isSwitch(target.option);
    const wantsValue = "own" in target ? target.own.takesValue : takesValue(target.option);
    if (denied && (!standsAlone || inline !== undefined)) {
      problems.push(`${token}: this flag takes a value and no "no-"`);
      continue;
    }
    const takesNext = mayTakeNext && !denied && (wantsValue || isTruth(next));
    if (takesNext) i++;
    const text = denied ? "false" : takesNext ? next : inline;
    if ("own" in target) {
      readOwn(target.own, written, text, { canonical, problems });
      continue;
    }
    const { group, key, option } = target;
    const read: Checked<unknown> =
      text === undefined && !standsAlone
        ? { ok: false, problems: [`${written}: got nothing, expected ${option.expected}`] }
        : readOptionText(option, text ?? "true", written);
    if (read.ok) (values[group.section] ??= {})[key] = read.value;
    else {
      problems.push(...read.problems);
      failed.add(`${group.section}.${key}`);
    }
  }
  return { canonical: [...canonical, "--", ...positionals], positionals, values, problems, failed };
}

function readOwn(
  flag: OwnFlag,
  written: string,
  text: string | undefined,
  { canonical, problems }: { readonly canonical: string[]; readonly problems: string[] },
): void {
  if (!flag.takesValue) {
    if (text === undefined || /^true$/i.test(text)) canonical.push(`--${flag.name}`);
    else if (!isTruth(text)) problems.push(`${written}: got ${formatValue(text)}, expected no value`);
    return;
  }
  const expected = flag.choices === undefined ? "a value" : `one of ${flag.choices.join(", ")}`;
  const fits = text !== undefined && text !== "" && (flag.choices?.includes(text) ?? true);
  const before = flag.repeatable === true ? canonical.findIndex((given) => given.startsWith(`--${flag.name}=`)) : -1;
  if (fits && before >= 0) canonical[before] += ` ${text}`;
  else if (fits) canonical.push(`--${flag.name}=${text}`);
  else problems.push(`${written}: got ${formatValue(text)}, expected ${expected}`);
}

function splitOnce(text: string, mark: string): [head: string, tail: string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + mark.length)];
}

/** The last value given for one of `names` (`--config x`, `--config=x`), before the other flags are known. */
export function peekFlag(argv: readonly string[], name: string): string | undefined {
  let found: string | undefined;
  for (let i = 0; i < argv.length && argv[i] !== "--"; i++) {
    const [written, inline] = splitOnce(argv[i]!, "=");
    if (written !== `--${name}`) continue;
    const next = argv[i + 1];
    const value = inline ?? (next === undefined || isFlag(next) ? undefined : next);
    if (value !== undefined && value !== "") found = value;
  }
  return found;
}
