/** Probabilities that are changed after prediction, such as fixed ones for rows whose text says more than the model does. */
import { ConfigError, PluginError } from "../core/errors.ts";
import { arena, type ArenaRow } from "../runtime/data/formats/arena.ts";
import { isRowOf } from "../core/plugin/data-format.ts";
import type { DataRow } from "../runtime/data/formats/index.ts";
import { isDistribution, type ProbabilityRow } from "./probabilities.ts";

/**
 * What becomes of a row's probabilities; give back those you got to leave the row alone. Messages call it by its name.
 * @example const hedge: PostProcess = (_, p) => p.map((value) => 0.98 * value + 0.02 / p.length);
 */
export interface PostProcess {
  (row: DataRow, probabilities: readonly number[]): readonly number[];
  readonly name: string;
  /** True: rows that are no arena rows are an error before anything is computed. */
  readonly arenaOnly?: boolean | undefined;
}

/** How many rows a step changed. */
export interface PostProcessCount {
  readonly name: string;
  readonly rows: number;
}

const isEmpty = (text: string): boolean => text.trim() === "";

/** The arena row's probabilities are fixed where `when` holds. */
function fixed(name: string, values: readonly number[], when: (row: ArenaRow) => boolean): PostProcess {
  const { columns } = arena.classes!;
  if (values.length !== columns.length || !isDistribution(values)) {
    const expected = `expected three probabilities that sum to 1, of ${columns.join(", ")}`;
    throw new ConfigError("POST_PROCESS_VALUES", `${name}: got ${values.join(",") || "nothing"}, ${expected}`);
  }
  const step = (row: DataRow, probabilities: readonly number[]): readonly number[] =>
    isRowOf(arena, row) && when(row) ? values : probabilities;
  return Object.defineProperties(step, { name: { value: name }, arenaOnly: { value: true } });
}

/**
 * Fixed probabilities (A, B, tie) for arena rows in which both answers are empty: nothing but white space, or null.
 * @throws ConfigError unless they are three that sum to 1
 * @example await predict({ run, files, postProcess: [bothEmpty([0.04, 0.88, 0.08]), identicalAnswers([0.06, 0.06, 0.88])] });
 */
export const bothEmpty = (probabilities: readonly number[]): PostProcess =>
  fixed("both-empty", probabilities, ({ responseA, responseB }) => isEmpty(responseA) && isEmpty(responseB));

/**
 * Fixed probabilities (A, B, tie) for arena rows whose answers are the same text, and not empty.
 * @throws ConfigError unless they are three that sum to 1
 */
export const identicalAnswers = (probabilities: readonly number[]): PostProcess =>
  fixed("identical", probabilities, ({ responseA, responseB }) => responseA === responseB && !isEmpty(responseA));

/** The shipped steps by the names that the command line knows. */
export const POST_PROCESSES: Readonly<Record<string, (probabilities: readonly number[]) => PostProcess>> = {
  "both-empty": bothEmpty,
  identical: identicalAnswers,
};

const nameOf = ({ name }: PostProcess, index: number): string => (name === "" ? `step ${index + 1}` : name);

/**
 * Runs the steps over every row, one after the other: each sees what the one before it gave.
 * @param rows in the order of `table`
 * @throws PluginError where a step gives what are no probabilities
 */
export function applyPostProcess(
  steps: readonly PostProcess[],
  rows: readonly DataRow[],
  table: readonly ProbabilityRow[],
): { readonly rows: readonly ProbabilityRow[]; readonly counts: readonly PostProcessCount[] } {
  const counts = steps.map(() => 0);
  const changed = table.map(({ id, values }, i): ProbabilityRow => {
    let now = values;
    steps.forEach((step, s) => {
      const next = step(rows[i]!, now);
      if (!Array.isArray(next) || next.length !== now.length || !isDistribution(next)) {
        const got = JSON.stringify(next) ?? "nothing";
        const { file, line } = rows[i]!;
        const message = `postProcess ${nameOf(step, s)}: got ${got} for ${file}:${line}, expected ${now.length} probabilities that sum to 1`;
        throw new PluginError("POST_PROCESS_INVALID", message);
      }
      if (next.some((value, c) => value !== now[c])) counts[s]!++;
      now = next;
    });
    return { id, values: now };
  });
  return { rows: changed, counts: steps.map((step, s) => ({ name: nameOf(step, s), rows: counts[s]! })) };
}
