/** Pairs of a chosen and a rejected answer, as trl's trainers take them: which of them is A is drawn by a seed. */
import { createHash } from "node:crypto";
import type { DataRecord, DataSource } from "../../../core/plugin/data-format.ts";
import type { Turn } from "../../../core/plugin/template.ts";
import { type CellKind, readTurns } from "./turns.ts";

/** A conversation up to the answers, and both answers. */
export interface Pair {
  readonly prompt: readonly Turn[];
  readonly chosen: readonly Turn[];
  readonly rejected: readonly Turn[];
}

/** True where the answer that was chosen is B. */
export const choosesB = (seed: number, id: string): boolean =>
  (createHash("sha256").update(`${seed}:${id}`).digest()[0]! & 1) === 1;

/** The prompt that answers begin with in common: whole messages of a list, or a text, as trl's extract_prompt. */
function commonPrompt(chosen: readonly Turn[], rejected: readonly Turn[]): Pair {
  const [a, b] = [chosen, rejected];
  if (a.length === 1 && b.length === 1 && a[0]!.role === undefined && b[0]!.role === undefined) {
    const [left, right] = [a[0]!.text, b[0]!.text];
    let same = 0;
    while (same < Math.min(left.length, right.length) && left[same] === right[same]) same++;
    // A space goes with the word that follows it; half a character goes nowhere.
    if (same > 0 && left[same - 1] === " ") same--;
    if (same > 0 && /[\ud800-\udbff]/.test(left[same - 1]!)) same--;
    const part = (from: number, to: number | undefined, text: string): Turn[] => [{ text: text.slice(from, to) }];
    return { prompt: part(0, same, left), chosen: part(same, undefined, left), rejected: part(same, undefined, right) };
  }
  let same = 0;
  const equal = (x: Turn | undefined, y: Turn | undefined): boolean =>
    x !== undefined && y !== undefined && x.role === y.role && x.text === y.text;
  while (equal(a[same], b[same])) same++;
  return { prompt: a.slice(0, same), chosen: a.slice(same), rejected: b.slice(same) };
}

/** Reads pairs. Without a column `prompt`, it is what both answers begin with. @throws DataError */
export function pairReader(source: DataSource, kind: CellKind): (record: DataRecord) => Pair {
  return (record) => {
    const [chosen, rejected] = [readTurns(record, "chosen", kind, source), readTurns(record, "rejected", kind, source)];
    if ((record.value("prompt") ?? undefined) === undefined) return commonPrompt(chosen, rejected);
    const prompt = readTurns(record, "prompt", kind, source);
    // Some files repeat the prompt's messages before each answer.
    const repeats = (turns: readonly Turn[]): boolean =>
      turns.length > prompt.length &&
      prompt.every(({ text }, i) => turns[i]!.text === text && turns[i]!.role !== undefined);
    const both = repeats(chosen) && repeats(rejected);
    const answer = (turns: readonly Turn[]): readonly Turn[] => (both ? turns.slice(prompt.length) : turns);
    return { prompt, chosen: answer(chosen), rejected: answer(rejected) };
  };
}
