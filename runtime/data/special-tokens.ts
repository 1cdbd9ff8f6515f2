/**
 * Which special tokens stand around a text, as a tokenizer's own files say. In the order of their authority: add_bos_token and
 * add_eos_token of tokenizer_config.json, and the tokens that it names; the post-processor of tokenizer.json, by id; then, for
 * which token is meant alone, special_tokens_map.json and config.json.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { isObject, parseJsonObject } from "../../core/formats/json-object.ts";

/** A special token, by its text where a file names it, else by its id. */
export type SpecialToken =
  | { readonly token: string; readonly file: string }
  | { readonly id: number; readonly file: string };

/** What the files say of one end of a text. */
export type SpecialRule = {
  /** Whether something is put there, as a flag of tokenizer_config.json says. */
  readonly flag: boolean | undefined;
  /** What is put there; empty where nothing is, undefined where the files do not say. */
  readonly added: readonly SpecialToken[] | undefined;
  /** The file that says whether; undefined where none does. */
  readonly source: string | undefined;
  /** The ids added there if requested; undefined if no file names such a token. */
  readonly own: SpecialToken | undefined;
};

export type SpecialRules = { readonly bos: SpecialRule; readonly eos: SpecialRule };

type Json = Readonly<Record<string, unknown>>;
const CONFIG = "tokenizer_config.json";
const TOKENIZER = "tokenizer.json";

const damaged = (path: string, problem: string, cause?: unknown): ModelError =>
  new ModelError("TOKENIZER_INVALID", `${path}: ${problem}`, { hint: "Download the file again.", cause });

/** A tokenizer's file of JSON; empty where it is missing. @throws ModelError */
export function readTokenizerJson(path: string): Json {
  if (!existsSync(path)) return {};
  return parseJsonObject(readFileSync(path), (problem, cause) => damaged(path, problem, cause));
}

/** A special token is a string, or an object with its content; null where the tokenizer has none. */
function tokenName(json: Json, key: string, path: string): string | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  const content = isObject(value) ? value["content"] : value;
  if (typeof content === "string") return content;
  throw damaged(path, `${key}: expected a token, got ${JSON.stringify(value).slice(0, 60)}`);
}

function flag(json: Json, key: string, path: string): boolean | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "boolean") return value;
  throw damaged(path, `${key}: expected true or false, got ${JSON.stringify(value).slice(0, 60)}`);
}

/** config.json may list several eos ids; the first is the tokenizer's. */
function configId(value: unknown): number | undefined {
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return isId(id) ? id : undefined;
}

const isId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;

type Ends = { readonly before: readonly number[]; readonly after: readonly number[] };

/** Ids that a post-processor puts before and after a single text. */
function processorEnds(processor: unknown, path: string): Ends {
  const nothing = { before: [], after: [] };
  if (!isObject(processor)) return nothing;
  const bad = (problem: string): ModelError => damaged(path, `post_processor: ${problem}`);
  const type = processor["type"];
  if (type === "Sequence") {
    const parts: unknown = processor["processors"];
    if (!Array.isArray(parts)) throw bad("a Sequence without processors");
    return parts.reduce((ends: Ends, part: unknown): Ends => {
      // A processor nests no deeper than a sequence of plain ones.
      const own = isObject(part) && part["type"] === "Sequence" ? nothing : processorEnds(part, path);
      return { before: [...own.before, ...ends.before], after: [...ends.after, ...own.after] };
    }, nothing);
  }
  if (type === "BertProcessing" || type === "RobertaProcessing") {
    const id = (key: "cls" | "sep"): number => {
      const pair: unknown = processor[key];
      if (Array.isArray(pair) && isId(pair[1])) return pair[1];
      throw bad(`${type} without the id of ${key}`);
    };
    return { before: [id("cls")], after: [id("sep")] };
  }
  if (type !== "TemplateProcessing") return nothing;
  const { single, special_tokens: specials } = processor;
  if (!Array.isArray(single) || !isObject(specials)) throw bad("a TemplateProcessing without single or special_tokens");
  const ends = { before: [] as number[], after: [] as number[] };
  let passed = false;
  for (const piece of single as unknown[]) {
    if (isObject(piece) && isObject(piece["Sequence"])) passed = true;
    const special = isObject(piece) ? piece["SpecialToken"] : undefined;
    if (!isObject(special)) continue;
    const name = String(special["id"]);
    const entry = Object.hasOwn(specials, name) ? specials[name] : undefined;
    const ids: unknown = isObject(entry) ? entry["ids"] : undefined;
    if (!Array.isArray(ids) || !ids.every(isId)) throw bad(`no ids of the token ${name}`);
    ends[passed ? "after" : "before"].push(...ids);
  }
  return ends;
}

/**
 * Reads what a folder's files say of special tokens; the folder need hold none of them.
 * @throws ModelError for a damaged file
 */
export function readSpecialRules(dir: string): SpecialRules {
  const path = (name: string): string => join(dir, name);
  const tokenizerConfig = readTokenizerJson(path(CONFIG));
  const map = "special_tokens_map.json";
  // Megabytes of vocabulary, which are read only where tokenizer_config.json leaves something open.
  let ends: Ends | undefined;
  const endsOf = (side: keyof Ends): readonly SpecialToken[] => {
    ends ??= processorEnds(readTokenizerJson(path(TOKENIZER))["post_processor"], path(TOKENIZER));
    return ends[side].map((id) => ({ id, file: TOKENIZER }));
  };
  const rule = (name: "bos" | "eos", side: keyof Ends): SpecialRule => {
    const named = (file: string, json: Json): SpecialToken | undefined => {
      const token = tokenName(json, `${name}_token`, path(file));
      return token === undefined ? undefined : { token, file };
    };
    const lone = (): SpecialToken | undefined => (endsOf(side).length === 1 ? endsOf(side)[0] : undefined);
    const mapped = (): SpecialToken | undefined => named(map, readTokenizerJson(path(map)));
    const numbered = (): SpecialToken | undefined => {
      const id = configId(readTokenizerJson(path("config.json"))[`${name}_token_id`]);
      return id === undefined ? undefined : { id, file: "config.json" };
    };
    const own = named(CONFIG, tokenizerConfig) ?? lone() ?? mapped() ?? numbered();
    const given = flag(tokenizerConfig, `add_${name}_token`, path(CONFIG));
    if (given !== undefined)
      return { flag: given, added: given && own !== undefined ? [own] : [], source: CONFIG, own };
    if (!existsSync(path(TOKENIZER))) return { flag: given, added: undefined, source: undefined, own };
    return { flag: given, added: endsOf(side), source: TOKENIZER, own };
  };
  return { bos: rule("bos", "before"), eos: rule("eos", "after") };
}

/** The ids that `add` requests, by default those that the files add. undefined: requested, but the files name no such token. */
export function specialTokens(
  { added, own }: SpecialRule,
  add: boolean | undefined,
): readonly SpecialToken[] | undefined {
  if (add === undefined) return added ?? [];
  if (!add) return [];
  if (added !== undefined && added.length > 0) return added;
  return own && [own];
}

/** The special tokens around a text: they identify the ids that it becomes, without the vocabulary. */
export type SpecialRecipe = {
  readonly before: readonly SpecialToken[];
  readonly after: readonly SpecialToken[];
  /** As version 0.1.0 named the two in a run's fingerprint: null for what it did itself, so that its runs go on. */
  readonly usual: readonly [before: unknown, after: unknown];
};

/** The special tokens around a text; eos is added by default, as in the seed notebook. */
export function specialRecipe(
  rules: SpecialRules,
  {
    addBos,
    addEos = rules.eos.own !== undefined,
  }: { readonly addBos?: boolean | undefined; readonly addEos?: boolean | undefined },
): SpecialRecipe {
  const [before, after] = [specialTokens(rules.bos, addBos) ?? [], specialTokens(rules.eos, addEos) ?? []];
  const was = earlierSpecials(rules);
  const same = (now: readonly SpecialToken[], then: readonly SpecialToken[]): boolean =>
    JSON.stringify(now) === JSON.stringify(then);
  return { before, after, usual: [same(before, was.before) ? null : before, same(after, was.after) ? null : after] };
}

/** What version 0.1.0 put around texts: it lost a bos that tokenizer_config.json does not name, and always added eos. */
export function earlierSpecials({ bos, eos }: SpecialRules): Pick<SpecialRecipe, "before" | "after"> {
  const knewBos = bos.source === CONFIG || bos.own?.file === CONFIG;
  return { before: knewBos ? (bos.added ?? []) : [], after: eos.own === undefined ? [] : [eos.own] };
}

/** Whether bos and eos are added, as run.json records it. */
export interface SpecialSettings {
  readonly addBosToken: boolean;
  readonly addEosToken: boolean;
}
