import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type * as Rust from "tokenizers";
import { ConfigError, ModelError } from "../errors.ts";

/** "tokenizers": Hugging Face's Rust library, from tokenizer.json; "transformers": AutoTokenizer, about ten times slower. */
export type TokenizerBackend = "tokenizers" | "transformers";

export type EncodeOptions = {
  /** Most tokens of a row, specials counted; the content is cut, the specials stay. Default: no limit. */
  readonly maxLength?: number | undefined;
  /** Default: as tokenizer_config.json says, else as tokenizer.json's post-processor does. */
  readonly addBos?: boolean | undefined;
  /** Default true where the tokenizer has an eos token: the classification head reads the last token. */
  readonly addEos?: boolean | undefined;
  /** Which end of the content is cut; default "right". */
  readonly truncation?: "right" | "left" | undefined;
};

/** Token ids of several rows, end to end. */
export type EncodedBatch = {
  readonly ids: Uint32Array<ArrayBuffer>;
  /** Tokens of each row in `ids`. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** Tokens that each row would have had without truncation. */
  readonly fullLengths: Uint32Array<ArrayBuffer>;
};

/** Turns texts into token ids. */
export interface Tokenizer {
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly vocabSize: number;
  /** Identifies vocabulary, merges and special tokens; part of the cache key. */
  readonly digest: string;
  /** @throws ConfigError for options that the tokenizer cannot fulfil */
  encodeBatch(texts: readonly string[], options?: EncodeOptions): Promise<EncodedBatch>;
}

/** Where a tokenizer lies and what its files say, known without loading it. */
export type TokenizerFiles = {
  readonly dir: string;
  readonly backend: TokenizerBackend;
  readonly digest: string;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly addBos: boolean | undefined;
};

/** What a tokenizing library does for us: content ids without specials. */
export type ContentEncoder = {
  readonly vocabSize: number;
  tokenToId(token: string): number | undefined;
  encode(texts: readonly string[]): Promise<readonly ArrayLike<number>[]>;
};

type Json = { readonly [key: string]: unknown };

function readJson(file: string): Json {
  if (!existsSync(file)) return {};
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Json;
  } catch (cause) {
    throw new ModelError("TOKENIZER_INVALID", `${file}: not valid JSON: ${(cause as Error).message}`, {
      cause,
      hint: "Download the file again.",
    });
  }
}

/** A special token is a string, or an object with its content; null where the tokenizer has none. */
function tokenContent(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  const content = (value as Json | null | undefined)?.["content"];
  return typeof content === "string" ? content : undefined;
}

/** config.json may list several eos ids; the first is the tokenizer's. */
function firstId(value: unknown): number | undefined {
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return typeof id === "number" ? id : undefined;
}

/**
 * Reads a checkpoint folder's tokenizer files without loading the vocabulary.
 * @param backend default: "tokenizers" where there is a tokenizer.json, else "transformers"
 * @throws ModelError where the folder has no tokenizer
 */
export function readTokenizerFiles(dir: string, backend?: TokenizerBackend): TokenizerFiles {
  const names = existsSync(dir)
    ? readdirSync(dir)
        .filter((name) => /^(tokenizer|special_tokens_map|vocab|merges)/.test(name))
        .sort()
    : [];
  if (names.length === 0) {
    throw new ModelError("TOKENIZER_MISSING", `${dir}: no tokenizer found, expected tokenizer.json`, {
      hint: "Put the model's tokenizer.json and tokenizer_config.json beside its weights, or give rows as input_ids.",
    });
  }
  const tokenizerConfig = readJson(join(dir, "tokenizer_config.json"));
  const config = readJson(join(dir, "config.json"));
  const chosen = backend ?? (names.includes("tokenizer.json") ? "tokenizers" : "transformers");
  const special = { bosId: firstId(config["bos_token_id"]), eosId: firstId(config["eos_token_id"]) };
  const hash = new Bun.CryptoHasher("sha256").update(JSON.stringify([chosen, special]));
  for (const name of names) hash.update(name).update(readFileSync(join(dir, name)));
  const addBos = tokenizerConfig["add_bos_token"];
  return {
    dir,
    backend: chosen,
    digest: hash.digest("hex"),
    bosToken: tokenContent(tokenizerConfig["bos_token"]),
    eosToken: tokenContent(tokenizerConfig["eos_token"]),
    ...special,
    addBos: typeof addBos === "boolean" ? addBos : undefined,
  };
}

/**
 * Loads a checkpoint's tokenizer (seconds for a large vocabulary).
 * @throws ModelError where it is missing or cannot be loaded
 */
export async function loadTokenizer(dir: string, backend?: TokenizerBackend): Promise<Tokenizer> {
  const files = readTokenizerFiles(dir, backend);
  const encoder =
    files.backend === "tokenizers"
      ? await loadRust(dir)
      : await (await import("./auto-tokenizer.ts")).loadAutoTokenizer(dir);
  const idOf = (token: string | undefined, id: number | undefined): number | undefined => {
    if (token === undefined) return id;
    const found = encoder.tokenToId(token);
    if (found !== undefined) return found;
    throw new ModelError(
      "TOKENIZER_INVALID",
      `${dir}: tokenizer_config.json names the token ${token}, which the vocabulary lacks`,
      {
        hint: "The tokenizer files do not belong together; download them again.",
      },
    );
  };
  const bosId = idOf(files.bosToken, files.bosId);
  const eosId = idOf(files.eosToken, files.eosId);
  const defaults = {
    addBos: files.addBos ?? postProcessorAdds(dir, bosId, files.bosToken),
    addEos: eosId !== undefined,
  };
  return {
    bosId,
    eosId,
    vocabSize: encoder.vocabSize,
    digest: files.digest,
    encodeBatch: async (texts, options = {}) => {
      const rules = encodeRules(options, { bosId, eosId }, defaults);
      return assemble(await encoder.encode(texts), rules);
    },
  };
}

function postProcessorAdds(dir: string, id: number | undefined, token: string | undefined): boolean {
  if (id === undefined || token === undefined) return false;
  const processor = readJson(join(dir, "tokenizer.json"))["post_processor"];
  return JSON.stringify(processor ?? null).includes(JSON.stringify(token));
}

type EncodeRules = {
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  readonly maxLength: number;
  readonly cutLeft: boolean;
};

function encodeRules(
  options: EncodeOptions,
  ids: { readonly bosId: number | undefined; readonly eosId: number | undefined },
  defaults: { readonly addBos: boolean; readonly addEos: boolean },
): EncodeRules {
  const special = (name: "addBos" | "addEos", id: number | undefined): number | undefined => {
    if (!(options[name] ?? defaults[name])) return undefined;
    if (id !== undefined) return id;
    throw new ConfigError("TOKENIZER_OPTIONS", `${name} is on, but the tokenizer has no such token`, {
      hint: `Set ${name} to false.`,
    });
  };
  const [bos, eos] = [special("addBos", ids.bosId), special("addEos", ids.eosId)];
  const { maxLength = Infinity } = options;
  const least = 1 + (bos === undefined ? 0 : 1) + (eos === undefined ? 0 : 1);
  if (!(maxLength >= least))
    throw new ConfigError(
      "TOKENIZER_OPTIONS",
      `maxLength: expected at least ${least} (specials and one token), got ${maxLength}`,
    );
  return { bos, eos, maxLength, cutLeft: options.truncation === "left" };
}

/** bos + content + eos; a bos that the content starts with already is not doubled. */
function assemble(contents: readonly ArrayLike<number>[], { bos, eos, maxLength, cutLeft }: EncodeRules): EncodedBatch {
  const specials = (bos === undefined ? 0 : 1) + (eos === undefined ? 0 : 1);
  const skips = contents.map((content) => (bos !== undefined && content[0] === bos ? 1 : 0));
  const fullLengths = Uint32Array.from(contents, (content, row) => content.length - skips[row]! + specials);
  const lengths = fullLengths.map((length) => Math.min(length, maxLength));
  const ids = new Uint32Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  contents.forEach((content, row) => {
    const kept = lengths[row]! - specials;
    const from = cutLeft ? content.length - kept : skips[row]!;
    if (bos !== undefined) ids[at++] = bos;
    for (let i = from; i < from + kept; i++) ids[at++] = content[i]!;
    if (eos !== undefined) ids[at++] = eos;
  });
  return { ids, lengths, fullLengths };
}

async function loadRust(dir: string): Promise<ContentEncoder> {
  let library: typeof Rust;
  try {
    library = await import("tokenizers");
  } catch (cause) {
    throw new ModelError(
      "TOKENIZER_LIBRARY",
      `the tokenizers library does not load here: ${(cause as Error).message}`,
      {
        cause,
        hint: 'Reinstall the packages, or use the slower tokenizer backend "transformers".',
      },
    );
  }
  const file = join(dir, "tokenizer.json");
  let tokenizer: Rust.Tokenizer;
  try {
    tokenizer = library.Tokenizer.fromFile(file);
  } catch (cause) {
    throw new ModelError("TOKENIZER_INVALID", `${file}: does not load (${(cause as Error).message})`, {
      cause,
      hint: "Download the file again.",
    });
  }
  // A saved tokenizer may carry the limits of its last use.
  tokenizer.disableTruncation();
  tokenizer.disablePadding();
  return {
    vocabSize: tokenizer.getVocabSize(true),
    tokenToId: (token) => tokenizer.tokenToId(token) ?? undefined,
    encode: async (texts) =>
      (await tokenizer.encodeBatch([...texts], { addSpecialTokens: false })).map((encoding) => encoding.getIds()),
  };
}
