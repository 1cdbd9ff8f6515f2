/** Token ids of texts between their specials, cut to a length: the part of a tokenizer that no library does. */
import { ConfigError } from "../../core/errors.ts";

export type EncodeOptions = {
  /** Most tokens of a row, specials counted; the content is cut, the specials stay. Default: no limit. */
  readonly maxLength?: number | undefined;
  /** Default: as the tokenizer's files say; see special-tokens.ts. */
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

/** Ids before and after a text. */
export type Specials = { readonly before: readonly number[]; readonly after: readonly number[] };

/** Turns texts into ids between specials; see `encodeRows` for rows of several texts. */
export interface BatchEncoder {
  /** Special ids around a text. @throws ConfigError for a requested token that the tokenizer lacks */
  specials(options?: Pick<EncodeOptions, "addBos" | "addEos">): Specials;
  /** @throws ConfigError for options that the tokenizer cannot fulfil */
  encodeBatch(texts: readonly string[], options?: EncodeOptions): Promise<EncodedBatch>;
}

/** How contents become rows of ids. */
export type EncodeRules = Specials & { readonly maxLength: number; readonly cutLeft: boolean };

/** @throws ConfigError where maxLength leaves no room */
export function encodeRules(
  { maxLength = Infinity, truncation }: EncodeOptions,
  { before, after }: Specials,
): EncodeRules {
  const least = 1 + before.length + after.length;
  if (!(maxLength >= least))
    throw new ConfigError(
      "TOKENIZER_OPTIONS",
      `maxLength: expected at least ${least} (specials and one token), got ${maxLength}`,
    );
  return { before, after, maxLength, cutLeft: truncation === "left" };
}

/** Specials around each content, cut as the rules say; specials before it that the content starts with already are not doubled. */
export function assemble(
  contents: readonly ArrayLike<number>[],
  { before, after, maxLength, cutLeft }: EncodeRules,
): EncodedBatch {
  const specials = before.length + after.length;
  const skips = contents.map((content) => (before.every((id, i) => content[i] === id) ? before.length : 0));
  const fullLengths = Uint32Array.from(contents, (content, row) => content.length - skips[row]! + specials);
  const lengths = fullLengths.map((length) => Math.min(length, maxLength));
  const ids = new Uint32Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  contents.forEach((content, row) => {
    const kept = lengths[row]! - specials;
    const from = cutLeft ? content.length - kept : skips[row]!;
    for (const id of before) ids[at++] = id;
    for (let i = from; i < from + kept; i++) ids[at++] = content[i]!;
    for (const id of after) ids[at++] = id;
  });
  return { ids, lengths, fullLengths };
}
