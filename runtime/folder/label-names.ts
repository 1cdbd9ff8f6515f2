/** Names of the classes that an adapter was trained on: id2label, as transformers has it in config.json. */
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import type { ClassNames } from "../data/label-encoder.ts";
import { namesOfId2label } from "./adapter-notes.ts";
import type { TrainedAdapter } from "./find-adapter.ts";
import { RUN_FILES } from "./folder.ts";

/** By the run's record, else by what stands beside the adapter; undefined where classes are numbers. @throws ModelError */
export function labelNamesOf({
  directory,
  record,
  beside,
}: Pick<TrainedAdapter, "directory" | "record" | "beside">): readonly string[] | undefined {
  if (record === undefined) return beside.labelNames;
  const { id2label: named, numLabels } = record.data;
  if (named === undefined) return undefined;
  const refuse = (problem: string): ModelError =>
    new ModelError("RUN_DAMAGED", `${join(directory, RUN_FILES.record)}: data.${problem}`, {
      hint: "Restore it; or move it away, and give the files and --base-model.",
    });
  const names = namesOfId2label(named, refuse);
  if (names.length === numLabels) return names;
  throw refuse(`id2label: expected ${numLabels} names, got ${names.length}`);
}

/** How labels of data are read for an adapter. @throws ModelError */
export const classesOf = (trained: TrainedAdapter): ClassNames => labelNamesOf(trained) ?? "numbers";
