/** The model card: README.md with the hub's metadata, figures, data and config of the run. */
import { basename } from "node:path";
import { isObject } from "../../core/formats/json-object.ts";
import { version } from "../../core/util/version.ts";
import { summaryOf } from "../../runtime/report/history.ts";
import { type JsonObject, numberAt, type ReportRun, textAt } from "../../runtime/report/run.ts";

/** What a card is written from. */
export interface CardFacts {
  readonly repo: string;
  readonly kind: "adapter" | "merged";
  /** The base on the hub; undefined where it is a folder of this machine. */
  readonly baseModel: string | undefined;
  /** The run that trained it, where its folder is there. */
  readonly run: ReportRun | undefined;
  readonly hasCurve: boolean;
}

/** Options that name places of this machine, or how this one run was driven. */
const LOCAL =
  /(?:^|\.)(?:\w*Dir|\w*Files|initAdapter|resumeFromCheckpoint|overwriteOutputDir|checkpoint|runName|cacheDir|device|from)$/;

/** The text of README.md. */
export function modelCard({ repo, kind, baseModel, run, hasCurve }: CardFacts): string {
  const adapter = textAt(run?.record ?? {}, "config.adapter.name");
  const metadata = [
    "---",
    ...(baseModel === undefined ? [] : [`base_model: ${JSON.stringify(baseModel)}`]),
    ...(kind === "adapter" ? ["library_name: peft"] : ["library_name: transformers"]),
    "pipeline_tag: text-classification",
    "tags:",
    "- qlora",
    ...(adapter === undefined ? [] : [`- ${adapter}`]),
    ...(kind === "adapter" && baseModel !== undefined
      ? [`- ${JSON.stringify(`base_model:adapter:${baseModel}`)}`]
      : []),
    "---",
  ];
  const what =
    kind === "adapter"
      ? `An adapter and a classification head for ${baseModel ?? "a base model"}`
      : "A merged classifier";
  const use =
    kind === "adapter"
      ? ["```sh", `qlora predict ${repo} rows.csv${baseModel === undefined ? " --base-model BASE" : ""}`, "```"]
      : ["```python", `AutoModelForSequenceClassification.from_pretrained(${JSON.stringify(repo)})`, "```"];
  return [
    ...metadata,
    "",
    `# ${repo.split("/").at(-1)}`,
    "",
    `${what}, trained with qlora ${textAt(run?.record ?? {}, "qlora") ?? version}.`,
    "",
    ...use,
    "",
    ...(run === undefined ? [] : sections(run, hasCurve)),
  ].join("\n");
}

function sections({ record, history }: ReportRun, hasCurve: boolean): string[] {
  const evaluation = history.findLast((entry) => Object.keys(entry).some((key) => key.startsWith("eval_")));
  const summary = summaryOf(history);
  const figures = Object.entries(evaluation ?? {}).filter(([key]) => key.startsWith("eval_") && !TIMES.test(key));
  const trained: [string, number | undefined][] = [
    ["train loss", summary?.["train_loss"]],
    ["steps", summary?.step],
    ["epochs", summary?.["epoch"]],
  ];
  return [
    "## Results",
    "",
    ...table(
      ["metric", "value"],
      [
        ...figures.map(([key, value]) => [key.replace(/^eval_/, ""), value.toPrecision(5)]),
        ...trained.flatMap(([key, value]) =>
          value === undefined ? [] : [[key, String(Number(value.toPrecision(5)))]],
        ),
      ],
    ),
    ...(hasCurve ? ["![Loss over steps](curve.svg)", ""] : []),
    "## Data",
    "",
    ...table(["", ""], dataRows(record)),
    "## Config",
    "",
    ...table(["option", "value"], configRows(record)),
  ];
}

const TIMES = /_(runtime|per_second)$/;

/** Names of files alone, for paths are of the machine that trained. */
function dataRows(record: JsonObject): string[][] {
  const config = isObject(record["config"]) ? record["config"] : {};
  const data = isObject(config["data"]) ? config["data"] : {};
  const names = (key: string): string =>
    (Array.isArray(data[key]) ? (data[key] as readonly unknown[]) : [])
      .map((path) => basename(String(path)))
      .join(", ");
  const rows = [
    ["training files", names("trainFiles")],
    ["evaluation files", names("evalFiles")],
    ["training rows", numberAt(record, "data.trainRows")],
    ["evaluation rows", numberAt(record, "data.evalRows")],
    ["classes", numberAt(record, "data.numLabels")],
    ["fingerprint", textAt(record, "data.fingerprint")],
  ];
  return rows.flatMap(([key, value]) => (value === undefined || value === "" ? [] : [[String(key), String(value)]]));
}

function configRows(record: JsonObject): string[][] {
  const rows = (value: unknown, path: string): string[][] => {
    if (isObject(value))
      return Object.entries(value).flatMap(([key, part]) => rows(part, path === "" ? key : `${path}.${key}`));
    if (LOCAL.test(path) || value === undefined || value === null) return [];
    return [[`\`${path}\``, JSON.stringify(value)]];
  };
  const config = isObject(record["config"]) ? record["config"] : {};
  const { reportTo: _, device: _d, ...shown } = config;
  return rows(shown, "");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), `|${" --- |".repeat(head.length)}`, ...rows.map(line), ""];
}
