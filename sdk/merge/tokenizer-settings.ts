/** What a merged checkpoint's tokenizer_config.json says beside what the base's says. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isObject } from "../../core/formats/json-object.ts";
import type { Padding } from "./padding.ts";

export const TOKENIZER_CONFIG = "tokenizer_config.json";

/** JSON.rawJSON, which TypeScript's library does not know yet: a number written as it was read. */
const rawJson = (JSON as unknown as { readonly rawJSON: (text: string) => unknown }).rawJSON;

/** Settings of what a run did, and of what is padded with, as tokenizer_config.json spells them. */
export interface TokenizerSettings {
  readonly padding: Padding | undefined;
  /** Whether the run put the tokens around its texts; undefined where it is not known. */
  readonly specials: { readonly addBosToken: boolean; readonly addEosToken: boolean } | undefined;
}

/** Settings that the base's file lacks or has otherwise; none where it has no such file. */
export async function tokenizerChanges(
  folder: string,
  { padding, specials }: TokenizerSettings,
): Promise<Readonly<Record<string, string | boolean>>> {
  const path = join(folder, TOKENIZER_CONFIG);
  if (!existsSync(path)) return {};
  const json: unknown = JSON.parse(await readFile(path, "utf8"));
  const has = isObject(json) ? json : {};
  const wanted: Record<string, string | boolean | undefined> = {
    pad_token: (has["pad_token"] ?? undefined) === undefined ? padding?.token : undefined,
    add_bos_token: specials?.addBosToken,
    add_eos_token: specials?.addEosToken,
  };
  const changes = Object.entries(wanted).filter(([key, value]) => value !== undefined && has[key] !== value);
  return Object.fromEntries(changes) as Record<string, string | boolean>;
}

/** The file's text with settings changed; numbers stay as they are spelled. */
export function withSettings(text: string, changes: Readonly<Record<string, string | boolean>>): string {
  if (Object.keys(changes).length === 0) return text;
  const reviver = (_: string, value: unknown, { source = "" }: { readonly source?: string } = {}): unknown =>
    typeof value === "number" ? rawJson(source) : value;
  const json = JSON.parse(text, reviver) as Record<string, unknown>;
  return `${JSON.stringify({ ...json, ...changes }, null, 2)}\n`;
}
