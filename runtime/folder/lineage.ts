/**
 * A run that goes back to an earlier checkpoint leaves its later ones behind: each start of a run begins a line, and what is
 * saved carries the lines that led to it. The living line is that of the last start, which run.json keeps.
 */
import { isObject } from "../../core/formats/json-object.ts";

/** One start of a run. */
export interface RunLine {
  readonly line: string;
  /** Optimizer steps that were done when it started. */
  readonly from: number;
}

/** The starts that led to a state, the first one first. */
export type Lineage = readonly RunLine[];

/** The line of runs that kept none: those of qlora 0.1.0, whose checkpoints have no manifest. */
export const UNRECORDED_LINE = "0.1.0";

export const UNRECORDED: Lineage = [{ line: UNRECORDED_LINE, from: 0 }];

/** The lines of a run that starts from a state, or from nothing. */
export function newLine(before: Lineage, from: number): Lineage {
  return [...before, { line: crypto.randomUUID(), from }];
}

/** True where a state lies on the way to what `living` does now. */
export function isOnLine(
  { lineage, step }: { readonly lineage: Lineage; readonly step: number },
  living: Lineage,
): boolean {
  if (lineage.length > living.length || lineage.some(({ line }, i) => line !== living[i]!.line)) return false;
  const next = living[lineage.length];
  return next === undefined || step <= next.from;
}

/** Steps that were done when `living` left the line of a state that does not lie on it. */
export function leftAt(lineage: Lineage, living: Lineage): number {
  const shared = living.findIndex(({ line }, i) => line !== lineage[i]?.line);
  return living[shared]?.from ?? 0;
}

/** True for what JSON of a lineage gives. */
export function isLineage(value: unknown): value is Lineage {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (part) =>
        isObject(part) &&
        typeof part["line"] === "string" &&
        Number.isSafeInteger(part["from"]) &&
        Number(part["from"]) >= 0,
    )
  );
}
