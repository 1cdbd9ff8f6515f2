/** Comparisons as a reward model sees them: each answer a text of its own, the two of a pair after one another. */
import { DataError } from "../../core/errors.ts";
import { isRowOf } from "../../core/plugin/data-format.ts";
import type { Turn } from "../../core/plugin/template.ts";
import type { Dataset } from "./dataset.ts";
import { type ArenaRow, arena } from "./formats/arena.ts";
import type { TextRow } from "./formats/classification.ts";
import { type DataRow, requireFormat } from "./formats/index.ts";

/** An answer with what it answers: the text that is scored. */
function answer(row: ArenaRow, side: "A" | "B", name: string): TextRow {
  const response = side === "A" ? row.responseA : row.responseB;
  const spoken = (turns: readonly Turn[], role: string): Turn[] => turns.map((turn) => ({ role, ...turn }));
  const given = row.turns;
  const asked = given?.prompt ?? (row.prompt === "" ? [] : [{ text: row.prompt }]);
  const answered = (side === "A" ? given?.responseA : given?.responseB) ?? [{ text: response }];
  return {
    kind: "text",
    id: `${row.id}#${name}`,
    file: row.file,
    line: row.line,
    label: undefined,
    text: row.prompt === "" ? response : `<prompt>: ${row.prompt}\n\n<response>: ${response}`,
    turns: [...spoken(asked, "user"), ...spoken(answered, "assistant")],
    ...(row.extra && { extra: row.extra }),
  };
}

/** The two answers of a comparison, the better one first where the file says which it is. */
function answersOf(row: ArenaRow): readonly TextRow[] {
  if (row.label === 0) return [answer(row, "A", "chosen"), answer(row, "B", "rejected")];
  if (row.label === 1) return [answer(row, "B", "chosen"), answer(row, "A", "rejected")];
  return [answer(row, "A", "a"), answer(row, "B", "b")];
}

/**
 * Every comparison as its chosen answer and its rejected one; ties are left out.
 * @throws DataError for rows that are no comparisons, or where all are ties
 */
export function pairAnswers(dataset: Dataset): Dataset {
  requireFormat(dataset.rows, "task reward", (format) => format.name === arena.name);
  const rows = dataset.rows.filter((row) => isRowOf(arena, row));
  const decided = rows.filter(({ label }) => label === 0 || label === 1);
  if (decided.length > 0)
    return { files: dataset.files, rows: decided.flatMap(answersOf), ties: rows.length - decided.length };
  throw new DataError("DATA_EMPTY", "no row says which of its answers is the better", rows[0]!, {
    hint: "A reward model learns from rows with chosen and rejected, or with a winner that is no tie.",
  });
}

/** What a reward model scores: texts as they are, and each answer of a comparison. */
export function splitAnswers(dataset: Dataset): Dataset {
  const rows = dataset.rows.flatMap((row): readonly DataRow[] => (isRowOf(arena, row) ? answersOf(row) : [row]));
  return { files: dataset.files, rows };
}
