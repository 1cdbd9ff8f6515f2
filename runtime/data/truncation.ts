/** How rows that are too long are cut: the whole text from one end, or each field of a comparison by its own budget. */
import { ConfigError } from "../../core/errors.ts";
import type { ComparisonFields } from "../../core/plugin/data-format.ts";
import type { EncodedBatch, EncodeOptions, Tokenizer } from "./tokenizer.ts";

/**
 * - `right`, `left`: the joined text loses its end (the seed notebook's way), or its start.
 * - `thirds`, `budget-20-40-40`: prompt and responses get these shares of the tokens; what one does not need goes to the
 *   others, and each loses its end.
 * - `prompt-cap`: the prompt is cut to `promptMaxTokens`, then the longer response until both are equal.
 * - `spread`: the notebook's `spread_max_length`: three texts of at most a third, each with its own bos and eos.
 */
export const TRUNCATIONS = ["right", "left", "thirds", "budget-20-40-40", "prompt-cap", "spread"] as const;
export type Truncation = (typeof TRUNCATIONS)[number];

/** A part of a row; the head names it and does not count as its content. */
export type TextField = { readonly head: string; readonly body: string };

/** What a row's ids are made of: a text, or the prompt and both responses, which stand one after the other. */
export type RowText = string | ComparisonFields<TextField>;

export type RowEncodeOptions = Omit<EncodeOptions, "truncation"> & {
  /** Default "right". */
  readonly truncation?: Truncation | undefined;
  /** Most tokens of a prompt under `prompt-cap`; default 256. */
  readonly promptMaxTokens?: number | undefined;
};

/** Bits of a row's cuts. */
export const CUT = 1;
/** Nothing of a response that had text is left. */
export const LOST_RESPONSE_A = 2;
export const LOST_RESPONSE_B = 4;

export type EncodedRows = EncodedBatch & {
  /** [rows] bits: CUT, LOST_RESPONSE_A, LOST_RESPONSE_B. */
  readonly cuts: Uint32Array<ArrayBuffer>;
};

const SHARES = { thirds: [1, 1, 1], "budget-20-40-40": [1, 2, 2] } as const;
type FieldBudget = keyof typeof SHARES | "prompt-cap";
const DEFAULT_PROMPT_TOKENS = 256;

const fieldText = ({ head, body }: TextField): string => head + body;
const joined = (row: RowText): string => (typeof row === "string" ? row : row.map(fieldText).join(""));

/**
 * Ids of rows, cut as the options say. A text that is no comparison is cut from the right by every budget.
 * @throws ConfigError where maxLength leaves no room
 */
export async function encodeRows(
  tokenizer: Tokenizer,
  rows: readonly RowText[],
  { truncation = "right", promptMaxTokens = DEFAULT_PROMPT_TOKENS, ...options }: RowEncodeOptions,
): Promise<EncodedRows> {
  if (truncation === "right" || truncation === "left" || !rows.some((row) => typeof row !== "string")) {
    const whole = truncation === "left" ? "left" : "right";
    const batch = await tokenizer.encodeBatch(rows.map(joined), { ...options, truncation: whole });
    return { ...batch, cuts: await wholeCuts(tokenizer, rows, batch, { ...options, truncation: whole }) };
  }
  return encodeFields(tokenizer, rows, { ...options, truncation, promptMaxTokens });
}

/** Which rows were cut, and what that took; only these are tokenized again, field by field. */
async function wholeCuts(
  tokenizer: Tokenizer,
  rows: readonly RowText[],
  { lengths, fullLengths }: EncodedBatch,
  { truncation, ...options }: EncodeOptions,
): Promise<Uint32Array<ArrayBuffer>> {
  const cuts = Uint32Array.from(lengths, (length, row) => (length < fullLengths[row]! ? CUT : 0));
  const suspects = rows.flatMap((row, i) => (cuts[i] === CUT && typeof row !== "string" ? [{ row, i }] : []));
  if (suspects.length === 0) return cuts;
  const { before, after } = tokenizer.specials(options);
  const fields = await measureFields(
    tokenizer,
    suspects.map(({ row }) => row),
  );
  suspects.forEach(({ row, i }, s) => {
    const { lengths: sizes } = fields[s]!;
    let room = lengths[i]! - before.length - after.length;
    const kept = sizes.map(() => 0);
    for (const field of truncation === "left" ? [2, 1, 0] : [0, 1, 2]) {
      const tokens = Math.min(room, sizes[field]!);
      kept[field] = tokens;
      room -= tokens;
    }
    // A field cut from the left loses its head first.
    cuts[i]! |= lostBits(row, kept, truncation === "left" ? [0, 0, 0] : fields[s]!.heads);
  });
  return cuts;
}

function lostBits(row: Exclude<RowText, string>, kept: readonly number[], heads: readonly number[]): number {
  const lost = (field: 1 | 2): boolean => row[field].body !== "" && kept[field]! <= heads[field]!;
  return (lost(1) ? LOST_RESPONSE_A : 0) | (lost(2) ? LOST_RESPONSE_B : 0);
}

interface FieldIds {
  readonly ids: readonly Uint32Array[];
  readonly lengths: readonly number[];
  /** Tokens of each field's head. */
  readonly heads: readonly number[];
}

/** Ids of the fields of rows, without specials. */
async function measureFields(tokenizer: Tokenizer, rows: readonly Exclude<RowText, string>[]): Promise<FieldIds[]> {
  if (rows.length === 0) return [];
  const heads = [...new Set(rows.flatMap((row) => row.map(({ head }) => head)))];
  const texts = [...heads, ...rows.flatMap((row) => row.map(fieldText))];
  const { ids, lengths } = await tokenizer.encodeBatch(texts, { addBos: false, addEos: false });
  const headTokens = new Map(heads.map((head, i) => [head, lengths[i]!]));
  let at = heads.reduce((sum, _, i) => sum + lengths[i]!, 0);
  return rows.map((row, r) => {
    const own = [0, 1, 2].map((f) => lengths[heads.length + 3 * r + f]!);
    return {
      ids: own.map((length) => ids.subarray(at, (at += length))),
      lengths: own,
      heads: row.map(({ head }) => headTokens.get(head)!),
    };
  });
}

async function encodeFields(
  tokenizer: Tokenizer,
  rows: readonly RowText[],
  options: RowEncodeOptions & { readonly truncation: FieldBudget | "spread"; readonly promptMaxTokens: number },
): Promise<EncodedRows> {
  const { truncation, promptMaxTokens, maxLength = Infinity, addBos, addEos } = options;
  const spread = truncation === "spread";
  const { before, after } = tokenizer.specials({ addBos, addEos });
  const [bos, eos] = [Uint32Array.from(before), Uint32Array.from(after)];
  const specials = bos.length + eos.length;
  const least = 3 + (spread ? 3 * specials : specials);
  if (!(maxLength >= least)) {
    throw new ConfigError(
      "TOKENIZER_OPTIONS",
      `maxLength: expected at least ${least} (specials and a token of each field), got ${maxLength}`,
    );
  }
  const fields = await measureFields(
    tokenizer,
    rows.filter((row) => typeof row !== "string"),
  );
  const plain = await tokenizer.encodeBatch(
    rows.filter((row) => typeof row === "string"),
    { maxLength, addBos, addEos },
  );
  const out = { ids: [] as Uint32Array[], full: [] as number[], cuts: [] as number[] };
  let [nextFields, nextPlain, at] = [0, 0, 0];
  for (const row of rows) {
    if (typeof row === "string") {
      const [length, full] = [plain.lengths[nextPlain]!, plain.fullLengths[nextPlain++]!];
      out.ids.push(plain.ids.subarray(at, (at += length)));
      out.full.push(full);
      out.cuts.push(length < full ? CUT : 0);
      continue;
    }
    const { ids, lengths, heads } = fields[nextFields++]!;
    const kept =
      truncation === "spread"
        ? lengths.map((length) => Math.min(length, Math.floor(maxLength / 3) - specials))
        : allotTokens(lengths, maxLength - specials, truncation, promptMaxTokens);
    const pieces = ids.map((piece, f) => piece.subarray(0, kept[f]));
    out.ids.push(spread ? concat(pieces.flatMap((piece) => [bos, piece, eos])) : concat([bos, ...pieces, eos]));
    out.full.push(lengths.reduce((sum, length) => sum + length, spread ? 3 * specials : specials));
    const cut = kept.some((length, f) => length < lengths[f]!);
    out.cuts.push(cut ? CUT | lostBits(row, kept, heads) : 0);
  }
  return {
    ids: concat(out.ids),
    lengths: Uint32Array.from(out.ids, (ids) => ids.length),
    fullLengths: Uint32Array.from(out.full),
    cuts: Uint32Array.from(out.cuts),
  };
}

function concat(parts: readonly Uint32Array[]): Uint32Array<ArrayBuffer> {
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * Tokens that prompt and responses keep of `room` in all, by the shares of `truncation`.
 * @param lengths tokens of the three fields
 */
export function allotTokens(
  lengths: readonly number[],
  room: number,
  truncation: FieldBudget,
  promptMaxTokens: number,
): number[] {
  const [prompt = 0, a = 0, b = 0] = lengths;
  if (prompt + a + b <= room) return [prompt, a, b];
  if (truncation !== "prompt-cap") return shareOut(lengths, SHARES[truncation], room);
  const capped = Math.min(prompt, promptMaxTokens, room);
  // Responses that leave room give it back to the prompt.
  const ofPrompt = Math.min(prompt, Math.max(capped, room - a - b));
  return [ofPrompt, ...shareOut([a, b], [1, 1], room - ofPrompt)];
}

/** Shares `room` out in proportion; a field that needs less than its share takes that, and the rest is shared out again. */
function shareOut(lengths: readonly number[], shares: readonly number[], room: number): number[] {
  const kept = lengths.map(() => 0);
  let open = lengths.map((_, i) => i);
  let left = room;
  for (;;) {
    const total = open.reduce((sum, i) => sum + shares[i]!, 0);
    const quota = (i: number): number => Math.floor((left * shares[i]!) / total);
    const modest = open.filter((i) => lengths[i]! <= quota(i));
    if (modest.length === 0) {
      const quotas = open.map(quota);
      open.forEach((i, k) => (kept[i] = quotas[k]!));
      // What rounding left over, a token each from the last field on.
      let over = left - quotas.reduce((sum, value) => sum + value, 0);
      for (const i of open.toReversed()) if (over-- > 0) kept[i]!++;
      return kept;
    }
    for (const i of modest) {
      kept[i] = lengths[i]!;
      left -= lengths[i]!;
    }
    open = open.filter((i) => !modest.includes(i));
    if (open.length === 0) return kept;
  }
}
