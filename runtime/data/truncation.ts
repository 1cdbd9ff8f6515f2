/** How rows that are too long are cut: the whole text from one end, or each field of a comparison by its own budget. */
import { ConfigError } from "../../core/errors.ts";
import type { BatchEncoder, EncodedBatch, EncodeOptions } from "./encode-batch.ts";

/**
 * - `right`, `left`: the joined text loses its end (the seed notebook's way), or its start.
 * - `thirds`, `budget-20-40-40`: prompt and responses get these shares of the tokens; what one does not need goes to the
 *   others, and each loses its end.
 * - `prompt-cap`: the prompt is cut to `promptMaxTokens`, then the longer response until both are equal.
 * - `spread`: the notebook's `spread_max_length`: three texts of at most a third, each with its own bos and eos.
 */
export const TRUNCATIONS = ["right", "left", "thirds", "budget-20-40-40", "prompt-cap", "spread"] as const;
export type Truncation = (typeof TRUNCATIONS)[number];

/** A part of a row; its head names it and does not count as its content, its tail stays where it is cut. */
export type TextField = {
  readonly head: string;
  readonly body: string;
  readonly tail: string;
  /** Whose share of the tokens it takes: 0 the prompt's, 1 and 2 the responses'; undefined: it is kept whole. */
  readonly field: number | undefined;
};

/** What a row's ids are made of: a text, or parts that stand one after the other. */
export type RowText = string | readonly TextField[];

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

const joined = (row: RowText): string =>
  typeof row === "string" ? row : row.map(({ head, body, tail }) => head + body + tail).join("");

/**
 * Ids of rows, cut as the options say. A text that is no comparison is cut from the right by every budget.
 * @throws ConfigError where maxLength leaves no room
 */
export async function encodeRows(
  tokenizer: BatchEncoder,
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
  tokenizer: BatchEncoder,
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
    const parts = fields[s]!;
    const left = truncation === "left";
    let room = lengths[i]! - before.length - after.length;
    const take = (tokens: number): number => {
      const taken = Math.min(room, tokens);
      room -= taken;
      return taken;
    };
    const kept = parts.map(() => 0);
    const order = parts.map((_, part) => part);
    for (const part of left ? order.toReversed() : order) {
      const { ids, tail } = parts[part]!;
      if (left) take(tail.length);
      kept[part] = take(ids.length);
      if (!left) take(tail.length);
    }
    // A part cut from the left loses its head first.
    cuts[i]! |= lostBits(row, kept, left ? undefined : parts);
  });
  return cuts;
}

/** @param heads tells the tokens of each part's head, which are no content; undefined: the head was lost first */
function lostBits(row: Parts, kept: readonly number[], heads: readonly PartIds[] | undefined): number {
  const lost = (field: 1 | 2): boolean => {
    const own = row.flatMap((part, i) => (part.field === field && part.body !== "" ? [i] : []));
    return own.length > 0 && own.every((i) => kept[i]! <= (heads?.[i]!.head ?? 0));
  };
  return (lost(1) ? LOST_RESPONSE_A : 0) | (lost(2) ? LOST_RESPONSE_B : 0);
}

type Parts = Exclude<RowText, string>;

/** Ids of a part, without specials. */
interface PartIds {
  /** Of head and body. */
  readonly ids: Uint32Array;
  readonly tail: Uint32Array;
  /** Tokens of its head. */
  readonly head: number;
}

/** Ids of the parts of rows. */
async function measureFields(tokenizer: BatchEncoder, rows: readonly Parts[]): Promise<readonly PartIds[][]> {
  const parts = rows.flat();
  if (parts.length === 0) return rows.map(() => []);
  const fixed = [...new Set(parts.flatMap(({ head, tail }) => [head, tail]))];
  const texts = [...fixed, ...parts.map(({ head, body }) => head + body)];
  const { ids, lengths } = await tokenizer.encodeBatch(texts, { addBos: false, addEos: false });
  let at = 0;
  const next = (index: number): Uint32Array => ids.subarray(at, (at += lengths[index]!));
  const known = new Map(fixed.map((text, i) => [text, next(i)]));
  let index = fixed.length;
  return rows.map((row) =>
    row.map(({ head, tail }) => ({ ids: next(index++), tail: known.get(tail)!, head: known.get(head)!.length })),
  );
}

async function encodeFields(
  tokenizer: BatchEncoder,
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
    const parts = fields[nextFields++]!;
    const full = parts.reduce((sum, { ids, tail }) => sum + ids.length + tail.length, 0);
    if (truncation === "spread") {
      const thirds = [0, 1, 2].map((field) => thirdOf(row, parts, field));
      const room = Math.max(0, Math.floor(maxLength / 3) - specials);
      out.ids.push(concat(thirds.flatMap((third) => [bos, third.subarray(0, room), eos])));
      out.full.push(full + 3 * specials);
      const cut = thirds.some((third) => third.length > room);
      out.cuts.push(cut ? CUT | lostBits(row, spreadKept(row, parts, room), parts) : 0);
      continue;
    }
    const kept = keepParts(row, parts, { truncation, promptMaxTokens, room: maxLength - specials });
    const pieces = parts.flatMap(({ ids, tail }, i) => {
      const gone = kept[i] === 0 && ids.length > 0;
      return gone ? [] : [ids.subarray(0, kept[i]), tail];
    });
    // A template may begin with the special tokens itself.
    const first = concat(pieces);
    const begun = bos.length > 0 && bos.every((id, i) => first[i] === id);
    out.ids.push(concat([begun ? new Uint32Array(0) : bos, first, eos]));
    out.full.push(full + specials - (begun ? bos.length : 0));
    const cut = kept.some((length, i) => length < parts[i]!.ids.length);
    out.cuts.push(cut ? CUT | lostBits(row, kept, parts) : 0);
  }
  return {
    ids: concat(out.ids),
    lengths: Uint32Array.from(out.ids, (ids) => ids.length),
    fullLengths: Uint32Array.from(out.full),
    cuts: Uint32Array.from(out.cuts),
  };
}

/** Ids of a field's parts with those that belong to none and follow it. */
function thirdOf(row: Parts, parts: readonly PartIds[], field: number): Uint32Array {
  return concat(parts.flatMap(({ ids, tail }, i) => (thirdAt(row, i) === field ? [ids, tail] : [])));
}

/** The field that a part stands with: its own, else that of the part before. */
const thirdAt = (row: Parts, i: number): number =>
  row.slice(0, i + 1).findLast(({ field }) => field !== undefined)?.field ?? 0;

/** Tokens that each part keeps where every field is cut to `room`. */
function spreadKept(row: Parts, parts: readonly PartIds[], room: number): number[] {
  const left = [room, room, room];
  return parts.map(({ ids, tail }, i) => {
    const third = thirdAt(row, i);
    const kept = Math.min(ids.length, left[third]!);
    left[third]! -= Math.min(kept + tail.length, left[third]!);
    return kept;
  });
}

/** How a row is cut by shares. */
interface Budget {
  readonly truncation: FieldBudget;
  readonly promptMaxTokens: number;
  /** Tokens of the row without specials. */
  readonly room: number;
}

/** Tokens that each part keeps: fields by their shares, a field's parts from the first on; the rest is kept whole. @throws ConfigError */
function keepParts(row: Parts, parts: readonly PartIds[], { truncation, promptMaxTokens, room }: Budget): number[] {
  const wholes = parts.reduce(
    (sum, { ids, tail }, i) => sum + tail.length + (row[i]!.field === undefined ? ids.length : 0),
    0,
  );
  const sizes = [0, 1, 2].map((field) =>
    parts.reduce((sum, { ids }, i) => sum + (row[i]!.field === field ? ids.length : 0), 0),
  );
  const needed = sizes.filter((size) => size > 0).length;
  if (room - wholes < needed) {
    throw new ConfigError(
      "TOKENIZER_OPTIONS",
      `maxLength: expected at least ${wholes + needed} and specials (what the template keeps whole, and a token of each field), got room for ${room}`,
    );
  }
  const left = allotTokens(sizes, room - wholes, truncation, promptMaxTokens);
  const begun = new Set<number>();
  return parts.map(({ ids, head }, i) => {
    const { field } = row[i]!;
    if (field === undefined) return ids.length;
    const kept = Math.min(ids.length, left[field]!);
    left[field]! -= kept;
    // A later turn of which not a token is left goes with its head.
    const gone = begun.has(field) && kept <= head && kept < ids.length;
    begun.add(field);
    return gone ? 0 : kept;
  });
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
