/** Options of the data: which rows, how they are split, and how they become tokens. */
import { defineOptions, option, type InferInput, type InferOptions } from "../../core/options/options.ts";
import { unknownKeys } from "../../core/util/suggest.ts";
import { columnNames, dataFormats } from "../data/formats/index.ts";
import { DEFAULT_TEMPLATE, templateNames, templateProblem } from "../data/templates/index.ts";
import { TRUNCATIONS } from "../data/truncation.ts";

/** Most samples of a batch and of an optimizer step: far above what anybody trains with, since plans go through them one by one. */
export const MAX_SAMPLES = 65_536;
export const samples = `1 <= number.integer <= ${MAX_SAMPLES}` as const;

/** Most tokens of one sample. */
export const MAX_TOKENS = 1_048_576;
export const sampleTokens = `1 <= number.integer <= ${MAX_TOKENS}` as const;

/** `'a' | 'b'` of names. */
type Choice<T extends readonly string[]> = T extends readonly [
  infer First extends string,
  ...infer Rest extends readonly string[],
]
  ? Rest extends readonly []
    ? `'${First}'`
    : `'${First}' | ${Choice<Rest>}`
  : never;

/** The definition of an option that is one of these names. */
export function choiceOf<const T extends readonly string[]>(names: T): Choice<T> {
  return names.map((name) => `'${name}'`).join(" | ") as Choice<T>;
}

type Names<T extends readonly { readonly name: string }[]> = { readonly [I in keyof T]: T[I]["name"] };
const formatNames = dataFormats.map(({ name }) => name) as unknown as Names<typeof dataFormats>;

export const dataOptions = defineOptions(
  {
    trainFiles: option("string[]", {
      default: [],
      help: "files to train on, read as one: CSV, JSON, JSONL or Parquet, also in .gz or .zip (one.zip#train.csv); folders and patterns of them; hf://org/name[@revision][/config][:split]",
    }),
    evalFiles: option("string[]", { default: [], help: "files to evaluate on" }),
    format: option(choiceOf(["auto", ...formatNames]), {
      default: "auto",
      help: dataFormats.map(({ name, columns }) => `${name}: ${columns}`).join("; "),
    }),
    columns: option("Record<string, string>", {
      default: {},
      help: `the files' own names of columns: of ${columnNames.join(", ")}`,
    }),
    labelNames: option("string[]", {
      default: [],
      help: "names of the classes from 0 on, as the files write them; of arena rows, what column winner says where A wins, B wins, and at a tie",
    }),
    weightColumn: option("string > 0", {
      optional: true,
      help: "column that says how much a row counts in the loss; the mean over the training rows is taken for 1",
    }),
    pairSeed: option("number.integer >= 0", {
      default: 42,
      help: "draws, with a row's id, whether its chosen answer is A or B",
    }),
    maxLength: option(sampleTokens, { default: 1024, help: "most tokens of a sample, bos and eos included" }),
    truncate: option(choiceOf(TRUNCATIONS), {
      default: "right",
      help: "what longer samples lose: their end or start; in arena rows, the ends of prompt and responses by shares of the tokens; the prompt beyond its cap and the longer response; or the notebook's three pieces with bos and eos each",
    }),
    promptMaxTokens: option("number.integer >= 1", {
      default: 256,
      help: "most tokens of a prompt where truncate is prompt-cap",
    }),
    addBosToken: option("'auto' | boolean", {
      default: "auto",
      help: "start texts with the bos token; auto: as the tokenizer's files say, in eval and predict as the run recorded",
    }),
    addEosToken: option("'auto' | boolean", {
      default: "auto",
      help: "end texts with the eos token; auto: in training wherever there is one, in eval and predict as the run recorded, else as the tokenizer's files say",
    }),
    nSplits: option("number.integer >= 2", {
      optional: true,
      help: "hold out every row whose position % nSplits is foldIdx, to evaluate on",
    }),
    foldIdx: option("number.integer >= 0", { default: 0, help: "which fold is held out" }),
    foldBy: option("'index' | 'id' | 'hash' | 'group' | 'stratified' | 'stratified-group'", {
      default: "index",
      help: "what deals rows into folds: position, id (a whole number) or hash of the id, % nSplits; or as scikit-learn's GroupKFold (no group in two folds), StratifiedKFold (the classes' shares in each) and StratifiedGroupKFold (both)",
    }),
    groupBy: option("string > 0", {
      default: "prompt",
      help: "what must not part where foldBy goes by groups: prompt, or a column of the files",
    }),
    template: option("string > 0", {
      default: DEFAULT_TEMPLATE,
      help: `how a row becomes text: ${templateNames.join(", ")} (the notebook's; a tag for each turn; the tokenizer's chat template), or a text with fields in braces, such as "{prompt}\\nA: {response_a}\\nB: {response_b}"; eval and predict do as the run recorded`,
    }),
    swapAugment: option("boolean", {
      default: false,
      help: "train on every arena row a second time with A and B exchanged",
    }),
    softLabelColumns: option("string[]", {
      default: [],
      help: "columns of the training files with the probability of each class; see softLabelWeight",
    }),
    softLabelFile: option("string > 0", {
      optional: true,
      help: "CSV of class probabilities by id, as cv, ensemble and predict write them, joined to the training rows as soft labels",
    }),
    cacheDir: option("string", { default: ".cache/qlora", help: "folder of tokenized data, kept by content" }),
  },
  ({ trainFiles, evalFiles, columns, template, nSplits, foldIdx, softLabelColumns, softLabelFile }) => {
    const problems = unknownKeys(columns, columnNames, "column", (key) => `columns.${key}`);
    const wrong = templateProblem(template);
    if (wrong !== undefined) problems.push(`template: ${wrong}`);
    if (trainFiles.includes("")) problems.push('trainFiles: got "", expected names of files');
    if (evalFiles.includes("")) problems.push('evalFiles: got "", expected names of files');
    if (nSplits !== undefined && foldIdx >= nSplits) {
      problems.push(`foldIdx: got ${foldIdx}, expected less than nSplits (${nSplits})`);
    }
    if (softLabelFile !== undefined && softLabelColumns.length > 0)
      problems.push("softLabelFile: got it together with softLabelColumns, expected only one of them");
    if (softLabelColumns.length === 1) problems.push("softLabelColumns: got one column, expected one for each class");
    if (nSplits === undefined && foldIdx > 0) problems.push(`foldIdx: got ${foldIdx} without nSplits, expected both`);
    if (nSplits !== undefined && evalFiles.length > 0) {
      problems.push("evalFiles: got files together with nSplits, expected only one of them");
    }
    return problems;
  },
);

export type DataOptionsInput = InferInput<typeof dataOptions>;
export type DataOptions = InferOptions<typeof dataOptions>;
