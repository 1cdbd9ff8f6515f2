import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { checkpointError } from "../../core/formats/checkpoint.ts";
import { formatPythonJson, parsePythonNumbers, type PythonJson } from "../../core/formats/python-json.ts";
import { PROBLEM_TYPES, type Task } from "../../core/plugin/task.ts";

type JsonObject = Readonly<Record<string, PythonJson>>;

/**
 * Text of config.json of the merged classifier: the base's without its quantization, with the classes and the architecture that
 * `AutoModelForSequenceClassification` reads.
 * @param folder of the base
 * @param changes fields that the model's options set otherwise, and what the base lacks
 * @param labelNames the run's own names of its classes, outputs or labels
 * @throws ModelError where the base names no architecture
 */
export async function mergedConfig(
  folder: string,
  changes: Readonly<Record<string, PythonJson>>,
  {
    numLabels,
    task,
    labelNames,
  }: { readonly numLabels: number; readonly task: Task; readonly labelNames?: readonly string[] | undefined },
): Promise<string> {
  const base = parsePythonNumbers(await readFile(join(folder, "config.json"), "utf8"));
  const { quantization_config: quantization, _name_or_path: __, num_labels: ___, ...kept } = base as JsonObject;
  const [architecture] = Array.isArray(kept["architectures"]) ? kept["architectures"] : [];
  const family = typeof architecture === "string" ? /^(\w+?)(?:For[A-Z]\w*|Model)$/.exec(architecture)?.[1] : undefined;
  if (family === undefined) {
    throw checkpointError(
      `${join(folder, "config.json")}: architectures is ${JSON.stringify(kept["architectures"]) ?? "missing"}, expected a name such as Gemma2ForCausalLM`,
      "Give a checkpoint that transformers saved.",
    );
  }
  // The run's names of its classes; else those of the base, where it has as many.
  const named = kept["id2label"];
  const names = typeof named === "object" && named !== null ? Object.values(named) : [];
  const labels = Array.from({ length: numLabels }, (_unused, i) => {
    const name: unknown =
      labelNames?.[i] ?? (names.length === numLabels ? (named as JsonObject)[String(i)] : undefined);
    return typeof name === "string" ? name : `LABEL_${i}`;
  });
  const text = formatPythonJson({
    ...kept,
    ...changes,
    ...textChanges(kept["text_config"], changes),
    architectures: [`${classifierOf(kept["model_type"], family)}ForSequenceClassification`],
    // Files of transformers 5 say dtype, older ones torch_dtype; both versions read what their time wrote.
    ...(quantization === undefined || quantization === null
      ? {}
      : { [kept["dtype"] === undefined ? "torch_dtype" : "dtype"]: "bfloat16" }),
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
    // transformers chooses the loss by it; a reward model of trl has none.
    problem_type: PROBLEM_TYPES[task] ?? null,
  });
  return `${text}\n`;
}

/** Text models whose classifier has another name than their language model's. */
function classifierOf(modelType: PythonJson | undefined, family: string): string {
  return modelType === "gemma3_text" ? "Gemma3Text" : family;
}

/** A model that also sees images has the settings of its text part apart, and its classifier pads as those say. */
function textChanges(text: PythonJson | undefined, changes: JsonObject): JsonObject {
  if (typeof text !== "object" || text === null || Array.isArray(text)) return {};
  return { text_config: { ...(text as JsonObject), ...changes } };
}
