import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type * as Rust from "tokenizers";
import { ConfigError, ModelError } from "../../core/errors.ts";
import type { ContentEncoder } from "./content-encoder.ts";
import { assemble, type BatchEncoder, encodeRules } from "./encode-batch.ts";
import {
  readSpecialRules,
  readTokenizerJson,
  type SpecialRules,
  type SpecialToken,
  specialTokens,
} from "./special-tokens.ts";

/** "tokenizers": Hugging Face's Rust library, from tokenizer.json; "transformers": AutoTokenizer, about ten times slower. */
export type TokenizerBackend = "tokenizers" | "transformers";

/** Turns texts into token ids. */
export interface Tokenizer extends BatchEncoder {
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly vocabSize: number;
  /** Identifies vocabulary, merges and special tokens; part of the cache key. */
  readonly digest: string;
}

/** The folder of a tokenizer and what its files say, known without loading it. */
export type TokenizerFiles = {
  readonly dir: string;
  readonly backend: TokenizerBackend;
  readonly digest: string;
  readonly rules: SpecialRules;
};

/** config.json may list several eos ids; the first is the tokenizer's. */
function firstId(value: unknown): number | undefined {
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return typeof id === "number" ? id : undefined;
}

/** Names of a tokenizer's files in a folder. */
function tokenizerNames(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .filter((name) => /^(tokenizer|special_tokens_map|vocab|merges)/.test(name))
    .sort();
}

/** Whether a folder has files of a tokenizer. */
export const hasTokenizer = (dir: string): boolean => tokenizerNames(dir).length > 0;

/**
 * Reads a checkpoint folder's tokenizer files without loading the vocabulary.
 * @param backend default: "tokenizers" where there is a tokenizer.json, else "transformers"
 * @throws ModelError where the folder has no tokenizer
 */
export function readTokenizerFiles(dir: string, backend?: TokenizerBackend): TokenizerFiles {
  const names = tokenizerNames(dir);
  if (names.length === 0) {
    throw new ModelError("TOKENIZER_MISSING", `${dir}: no tokenizer found, expected tokenizer.json`, {
      hint: "Put the model's tokenizer.json and tokenizer_config.json beside its weights, or give rows as input_ids.",
    });
  }
  const config = readTokenizerJson(join(dir, "config.json"));
  const chosen = backend ?? (names.includes("tokenizer.json") ? "tokenizers" : "transformers");
  const special = { bosId: firstId(config["bos_token_id"]), eosId: firstId(config["eos_token_id"]) };
  const hash = createHash("sha256").update(JSON.stringify([chosen, special]));
  for (const name of names) hash.update(name).update(readFileSync(join(dir, name)));
  return { dir, backend: chosen, digest: hash.digest("hex"), rules: readSpecialRules(dir) };
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
  const idOf = (special: SpecialToken): number => {
    if ("id" in special) return special.id;
    const { token, file } = special;
    const found = encoder.tokenToId(token);
    if (found !== undefined) return found;
    throw new ModelError("TOKENIZER_INVALID", `${dir}: ${file} names the token ${token}, which the vocabulary lacks`, {
      hint: "The tokenizer files do not belong together; download them again.",
    });
  };
  const { bos, eos } = files.rules;
  const bosId = bos.own && idOf(bos.own);
  const eosId = eos.own && idOf(eos.own);
  const specials: Tokenizer["specials"] = ({ addBos, addEos = eosId !== undefined } = {}) => ({
    before: required("addBos", specialTokens(bos, addBos)).map(idOf),
    after: required("addEos", specialTokens(eos, addEos)).map(idOf),
  });
  return {
    bosId,
    eosId,
    vocabSize: encoder.vocabSize,
    digest: files.digest,
    specials,
    encodeBatch: async (texts, options = {}) => {
      const rules = encodeRules(options, specials(options));
      return assemble(await encoder.encode(texts), rules);
    },
  };
}

function required<T>(name: "addBos" | "addEos", tokens: T | undefined): T {
  if (tokens !== undefined) return tokens;
  throw new ConfigError("TOKENIZER_OPTIONS", `${name}Token is on, but the tokenizer has no such token`, {
    hint: `Set ${name}Token to false.`,
  });
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
  // Special tokens are added here (special-tokens.ts). A damaged template would panic in the library, which ends the process.
  tokenizer.setPostProcessor(library.byteLevelProcessing(false));
  return {
    vocabSize: tokenizer.getVocabSize(true),
    tokenToId: (token) => tokenizer.tokenToId(token) ?? undefined,
    encode: async (texts) => {
      try {
        const encodings = await tokenizer.encodeBatch([...texts], { addSpecialTokens: false });
        return encodings.map((encoding) => encoding.getIds());
      } catch (cause) {
        // A file that loads may lack what some text needs, such as its token for unknown words.
        throw new ModelError("TOKENIZER_INVALID", `${file}: cannot encode a text (${(cause as Error).message})`, {
          cause,
          hint: "Download the file again; a custom vocabulary needs its unk_token in it.",
        });
      }
    },
  };
}
