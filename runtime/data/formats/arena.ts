/**
 * Comparisons of two answers to a prompt, in the columns of the LMSYS competition and of its sequel, of the arena's own files
 * (two conversations), or of preference data (chosen and rejected).
 */
import type {
  BaseRow,
  DataFormat,
  DataRecord,
  DataSource,
  FixedClasses,
  ReadOptions,
  RowReader,
} from "../../../core/plugin/data-format.ts";
import type { Turn } from "../../../core/plugin/template.ts";
import { rowId } from "./row-id.ts";
import { choosesB, pairReader } from "./preference.ts";
import { type CellKind, cellKind, joinTurns, readTurns } from "./turns.ts";
import { requireColumn, WINNER_COLUMNS, winnerColumns, winnerReader } from "./winner.ts";

/** The turns of a comparison's parts. */
export type ArenaTurns = {
  readonly prompt: readonly Turn[];
  readonly responseA: readonly Turn[];
  readonly responseB: readonly Turn[];
};

/** A prompt and two answers, kept apart so that they can be cut or swapped before they are joined. */
export type ArenaRow = BaseRow & {
  readonly kind: "arena";
  readonly prompt: string;
  readonly responseA: string;
  readonly responseB: string;
  /** The same, turn by turn, where there is more than one or the file says whose they are. */
  readonly turns?: ArenaTurns | undefined;
};

/** Columns that make a file an arena file. */
const COMPARISON = ["prompt", "response_a", "response_b"] as const;
const CONVERSATIONS = ["conversation_a", "conversation_b"] as const;
const PAIR = ["chosen", "rejected"] as const;

const HINT =
  `Arena files have ${COMPARISON.join(", ")} (or ${CONVERSATIONS.join(", ")}) and, for training, ${WINNER_COLUMNS.join(", ")}, or a column winner; ` +
  `or ${PAIR.join(" and ")}, perhaps with prompt.`;

const hasAll = (source: DataSource, names: readonly string[]): boolean => names.every((name) => source.has(name));

/** Reads the parts of a record; `chosenIsB` is undefined where a file does not say which answer was chosen. */
type PartsReader = (record: DataRecord, id: string) => ArenaTurns & { readonly chosenIsB?: boolean };

function partsReader(
  source: DataSource,
  { sideSeed }: Pick<ReadOptions, "sideSeed">,
): { readonly uses: readonly string[]; readonly read: PartsReader } {
  const kindOf = (columns: readonly string[]): CellKind =>
    cellKind(
      source,
      columns.filter((name) => source.has(name)),
    );
  if (!hasAll(source, COMPARISON) && hasAll(source, CONVERSATIONS)) {
    const kind = kindOf(CONVERSATIONS);
    return {
      uses: CONVERSATIONS,
      read: (record) =>
        conversations(
          readTurns(record, CONVERSATIONS[0], kind, source),
          readTurns(record, CONVERSATIONS[1], kind, source),
        ),
    };
  }
  if (!hasAll(source, COMPARISON) && hasAll(source, PAIR)) {
    const uses = ["prompt", ...PAIR];
    const readPair = pairReader(source, kindOf(uses));
    const read: PartsReader = (record, id) => {
      const { prompt, chosen, rejected } = readPair(record);
      const chosenIsB = choosesB(sideSeed, id);
      return { prompt, responseA: chosenIsB ? rejected : chosen, responseB: chosenIsB ? chosen : rejected, chosenIsB };
    };
    return { uses, read };
  }
  for (const name of COMPARISON) requireColumn(source, name, HINT);
  const kind = kindOf(COMPARISON);
  const turns = (record: DataRecord, name: string): readonly Turn[] => readTurns(record, name, kind, source);
  const read: PartsReader = (record) => ({
    prompt: turns(record, "prompt"),
    responseA: turns(record, "response_a"),
    responseB: turns(record, "response_b"),
  });
  return { uses: COMPARISON, read };
}

/** What the user said in both conversations, and what each model answered. */
function conversations(a: readonly Turn[], b: readonly Turn[]): ArenaTurns {
  const isAnswer = ({ role }: Turn): boolean => role !== undefined && ["assistant", "gpt", "model"].includes(role);
  return { prompt: a.filter((turn) => !isAnswer(turn)), responseA: a.filter(isAnswer), responseB: b.filter(isAnswer) };
}

/**
 * Rows by the columns above, found by name. Labels: 0 = A wins, 1 = B wins, 2 = tie; without columns that say who won, the
 * label is undefined.
 * @throws DataError with file and line
 */
function reader(source: DataSource, options: ReadOptions): RowReader<ArenaRow> {
  const { file } = source;
  const { labelled, softLabelColumns, labelNames } = options;
  const parts = partsReader(source, options);
  // Winner columns that hold probabilities are no labels.
  const hard = labelled && !softLabelColumns.some((name) => name.startsWith("winner_"));
  const labelOf = hard ? winnerReader(source, labelNames, HINT) : undefined;
  let [tied, paired] = [false, false];
  const read = (record: DataRecord, position: number): ArenaRow => {
    const id = rowId(source, record, position);
    const { chosenIsB, ...turns } = parts.read(record, id);
    const chosen = !labelled || chosenIsB === undefined ? undefined : chosenIsB ? 1 : 0;
    const label = labelOf?.(record) ?? chosen;
    tied ||= label === 2;
    paired ||= chosen !== undefined;
    const lists = Object.values(turns);
    return {
      kind: "arena",
      id,
      file,
      line: record.line,
      label,
      prompt: joinTurns(turns.prompt),
      responseA: joinTurns(turns.responseA),
      responseB: joinTurns(turns.responseB),
      ...(lists.some((list) => list.length !== 1 || list[0]!.role !== undefined) ? { turns } : {}),
    };
  };
  const classes = (): number | undefined => {
    if (labelOf === undefined && !paired) return undefined;
    return source.has("winner_tie") || tied ? 3 : 2;
  };
  return { uses: [...parts.uses, "id", ...winnerColumns(source)], read, classes };
}

const classes: FixedClasses<ArenaRow> = {
  names: ["A wins", "B wins", "tie"],
  columns: WINNER_COLUMNS,
  min: 2,
  expected: {
    all: "three classes (A wins, B wins, tie)",
    some: "an arena's classes (A wins, B wins, perhaps tie)",
  },
  missing: (seen, numLabels) =>
    numLabels < 3 || seen.has(2)
      ? undefined
      : "no training row is a tie: the third of the three classes is never seen (without a column winner_tie, two are trained)",
  mirror: {
    row: (row) => ({
      ...row,
      responseA: row.responseB,
      responseB: row.responseA,
      ...(row.turns && { turns: { ...row.turns, responseA: row.turns.responseB, responseB: row.turns.responseA } }),
    }),
    labels: [1, 0, 2],
  },
};

/** Rows with `prompt`, `response_a` and `response_b`, and who won. */
export const arena: DataFormat<"arena", ArenaRow> = {
  name: "arena",
  kinds: ["arena"],
  columns: "columns prompt, response_a, response_b, winner_* (or winner; or chosen, rejected)",
  columnNames: ["id", ...COMPARISON, ...CONVERSATIONS, ...PAIR, ...WINNER_COLUMNS, "winner", "model_a", "model_b"],
  labelColumns: "the winner columns",
  recognizes: (source) => [COMPARISON, CONVERSATIONS, PAIR].some((names) => hasAll(source, names)),
  reader,
  labelReader: (source, names) =>
    winnerReader(source, names.join() === WINNER_COLUMNS.slice(0, names.length).join() ? [] : names, HINT),
  fields: ({ prompt, responseA, responseB }) => [prompt, responseA, responseB],
  // The seed notebook's template.
  fieldHeads: ["<prompt>: ", "\n\n<response_a>: ", "\n\n<response_b>: "],
  classes,
};
