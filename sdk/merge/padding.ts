/** The token that a classifier of transformers pads with: without one, it says "Cannot handle batch sizes > 1". */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { checkpointError } from "../../core/formats/checkpoint.ts";
import { isObject, parseJsonObject } from "../../core/formats/json-object.ts";

type Json = Readonly<Record<string, unknown>>;

/** What a merged checkpoint pads with. */
export interface Padding {
  readonly id: number;
  /** Its text, where the tokenizer's files tell. */
  readonly token: string | undefined;
  /** Who says so. */
  readonly by: string;
  /** It also ends texts: transformers then reads the class one token before that end. */
  readonly endsTexts: boolean;
}

/**
 * The base's own, else the tokenizer's, else that of generation_config.json, else a special token that no text holds: one named
 * for padding, the unknown one, a reserved one; in the end, the one that ends texts.
 * @throws ModelError where a file is damaged
 */
export async function choosePadding(folder: string): Promise<Padding | undefined> {
  const [config, generation, tokenizer, map] = await Promise.all(
    ["config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"].map((name) =>
      readJson(join(folder, name)),
    ),
  );
  const vocabSize = config!["vocab_size"];
  const usable = (id: unknown): id is number =>
    Number.isSafeInteger(id) && (id as number) >= 0 && (typeof vocabSize !== "number" || (id as number) < vocabSize);
  const tokens = await specialTokens(folder, tokenizer!);
  const textOf = new Map([...tokens].map(([text, id]) => [id, text]));
  const named = (key: string): string | undefined => tokenText(tokenizer![key]) ?? tokenText(map![key]);
  const first = (value: unknown): unknown => (Array.isArray(value) ? value[0] : value);
  const endings = [config!["eos_token_id"], generation!["eos_token_id"], tokens.get(named("eos_token") ?? "")].flat();
  const begins = [config!["bos_token_id"], tokens.get(named("bos_token") ?? "")];
  const spare = (pattern: RegExp): number | undefined =>
    [...tokens].find(([text, id]) => pattern.test(text) && !endings.includes(id) && !begins.includes(id))?.[1];
  const unknown = tokens.get(named("unk_token") ?? "");
  const candidates: readonly (readonly [id: unknown, by: string])[] = [
    [config!["pad_token_id"], "config.json"],
    [tokens.get(named("pad_token") ?? ""), "the tokenizer's files"],
    [generation!["pad_token_id"], "generation_config.json"],
    [spare(/pad/i), "a special token named for padding"],
    [endings.includes(unknown) || begins.includes(unknown) ? undefined : unknown, "the unknown token"],
    [spare(/reserved|unused/i), "a reserved token"],
    [first(config!["eos_token_id"]) ?? tokens.get(named("eos_token") ?? ""), "the token that ends texts"],
  ];
  const found = candidates.find(([id]) => usable(id));
  if (found === undefined) return undefined;
  const [id, by] = found as readonly [number, string];
  return { id, token: textOf.get(id), by, endsTexts: endings.includes(id) };
}

/** Special tokens by their text. */
async function specialTokens(folder: string, tokenizer: Json): Promise<ReadonlyMap<string, number>> {
  const decoder = tokenizer["added_tokens_decoder"];
  const known = isObject(decoder) ? Object.entries(decoder).map(([id, token]) => [tokenText(token), Number(id)]) : [];
  if (known.length > 0) return asMap(known);
  const { added_tokens: added } = await readJson(join(folder, "tokenizer.json"));
  return asMap(
    (Array.isArray(added) ? added : []).map((token: unknown) => [tokenText(token), isObject(token) ? token["id"] : 0]),
  );
}

const asMap = (pairs: readonly (readonly unknown[])[]): ReadonlyMap<string, number> =>
  new Map(
    pairs.filter((pair): pair is [string, number] => typeof pair[0] === "string" && Number.isSafeInteger(pair[1])),
  );

/** A token is a string, or an object with its content. */
function tokenText(value: unknown): string | undefined {
  const text: unknown = isObject(value) ? value["content"] : value;
  return typeof text === "string" ? text : undefined;
}

async function readJson(path: string): Promise<Json> {
  if (!existsSync(path)) return {};
  return parseJsonObject(await readFile(path), (problem, cause) =>
    checkpointError(`${path}: ${problem}`, "Fetch the file again.", cause),
  );
}
