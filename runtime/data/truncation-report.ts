import type { Dataset } from "./dataset.ts";
import { contentOf } from "./row.ts";
import type { TokenLengths } from "./token-store.ts";
import { CUT, LOST_RESPONSE_A, LOST_RESPONSE_B } from "./truncation.ts";

/** What truncation did to a dataset. */
export interface TruncationReport {
  readonly rows: number;
  /** Rows that lost tokens. */
  readonly cut: number;
  /** Rows of which nothing of a response is left that had text: A, B, or either; undefined where no row has responses. */
  readonly lostResponseA: number | undefined;
  readonly lostResponseB: number | undefined;
  readonly lostAResponse: number | undefined;
  /** Tokens of the longest row before it was cut. */
  readonly longest: number;
}

/** Whether there is a response to lose. */
const hasResponses = (content: ReturnType<typeof contentOf>): boolean =>
  typeof content !== "string" &&
  !(content instanceof Uint32Array) &&
  content.some(({ field }) => field === 1 || field === 2);

/** Counts rows cut, and rows that lost a whole response where there are any to lose. */
export function truncationReport({ rows, template }: Dataset, { cuts, fullLengths }: TokenLengths): TruncationReport {
  const count = (bits: number): number => cuts.reduce((sum, row) => sum + ((row & bits) === 0 ? 0 : 1), 0);
  const countLost = rows.some((row) => hasResponses(contentOf(row, template))) ? count : () => undefined;
  return {
    rows: cuts.length,
    cut: count(CUT),
    lostResponseA: countLost(LOST_RESPONSE_A),
    lostResponseB: countLost(LOST_RESPONSE_B),
    lostAResponse: countLost(LOST_RESPONSE_A | LOST_RESPONSE_B),
    longest: fullLengths.reduce((most, length) => Math.max(most, length), 0),
  };
}

/** The report as one sentence; undefined where nothing was cut. */
export function truncationMessage(
  what: string,
  report: TruncationReport,
  maxLength: number,
  truncate: string,
): string | undefined {
  const { rows, cut, lostAResponse, longest } = report;
  if (cut === 0) return undefined;
  const lost = lostAResponse === undefined ? "" : `, ${lostAResponse} lost a whole response`;
  return `${what}: ${cut} of ${rows} rows cut to ${maxLength} tokens (--truncate ${truncate}; the longest has ${longest})${lost}`;
}
