/** Distillation: teachers predict rows that they did not see, are calibrated and averaged, and a student learns from both. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import { type Config, defineConfig, requireConfig } from "../runtime/config/config.ts";
import { loadDataset } from "../runtime/data/dataset.ts";
import { writeFileAtomic } from "../runtime/files/files.ts";
import { isFolder } from "../runtime/files/stat.ts";
import { columnOptions } from "../runtime/run/data.ts";
import type { TrainOptions, TrainResult } from "../runtime/run/train-types.ts";
import { distillation } from "../runtime/training/distillation.ts";
import { CV_FILES, crossValidate } from "./cross-validate.ts";
import { ensemble, type EnsembleResult } from "./ensemble.ts";
import { formatProbabilities, requireUniqueIds } from "./probabilities.ts";
import { train } from "./train.ts";

/** Who teaches, and how. */
export interface DistillRequest {
  /** Each a file of probabilities by id, the folder of a cross-validation, or a config, which is cross-validated now. */
  readonly teachers: readonly (string | Config)[];
  /** Folds of a config's cross-validation. Default 5. */
  readonly folds?: number | undefined;
  /** Fit the teachers' weights and temperature to the labels of the rows. Default true; else they count alike. */
  readonly calibrate?: boolean | undefined;
  /** `blackpearl`: the loss `distillation()`; default: the config's own loss, which is soft-label where it names none. */
  readonly recipe?: "blackpearl" | undefined;
}

/** What a distillation gives. */
export interface DistillResult {
  /** The teachers' mean, by id. */
  readonly softLabels: string;
  /** Files of the teachers. */
  readonly teachers: readonly string[];
  readonly weights: readonly number[];
  readonly temperature: number;
  readonly fit: EnsembleResult["fit"];
  /** Undefined where a teacher was interrupted; the same call goes on from there. */
  readonly student: TrainResult | undefined;
}

const check = defineRequest<DistillRequest>("distill", {
  teachers: "(string | object)[]",
  folds: "number.integer >= 2?",
  calibrate: "boolean?",
  recipe: "'blackpearl'?",
});

/** Names in a distillation's folder, which is the config's `outputDir`. */
const [SOFT_LABELS, LABELS, STUDENT] = ["soft-labels.csv", "labels.csv", "student"];

/**
 * Trains a student on labels and on what teachers say of the rows: in `outputDir` lie teacher-N (of configs), soft-labels.csv and student.
 * Teachers that are configs go on where they stopped; the student does with `resumeFromCheckpoint`.
 * @throws ConfigError, DataError where a teacher lacks a row
 * @example
 * const { data, training } = config.input;
 * const whole = { data: { ...data, nSplits: undefined }, training: { ...training, outputDir, evalStrategy: "no" as const } };
 * const student = defineConfig({ ...config.input, ...whole });
 * const { weights } = await distill(student, { teachers: [student], folds: 2 }); // [1]: one teacher, out of fold
 */
export async function distill(
  config: Config,
  request: DistillRequest,
  options: TrainOptions = {},
): Promise<DistillResult> {
  requireConfig(config);
  const { teachers, folds = 5, calibrate = true, recipe } = check(request);
  if (teachers.length === 0)
    throw new ConfigError("DISTILL_TEACHERS", "teachers: got none, expected a file, a cross-validation or a config");
  const { outputDir } = config.training;
  const softLabels = join(outputDir, SOFT_LABELS);
  const files: string[] = [];
  for (const [i, teacher] of teachers.entries()) {
    const file = await fileOf(teacher, { folder: join(outputDir, `teacher-${i}`), folds, options });
    if (file === undefined)
      return { softLabels, teachers: files, weights: [], temperature: 1, fit: undefined, student: undefined };
    files.push(file);
  }
  const fit = calibrate ? await writeLabels(config, join(outputDir, LABELS)) : undefined;
  const mean = await ensemble({ files, fit });
  await writeFileAtomic(softLabels, formatProbabilities(mean));
  if (mean.fit?.warning !== undefined) options.onEvent?.({ type: "warning", message: mean.fit.warning });
  const { input } = config;
  const student = await train(
    defineConfig({
      ...input,
      ...(recipe === undefined ? {} : { loss: distillation() }),
      data: { ...input.data, softLabelFile: softLabels },
      training: { ...input.training, outputDir: join(outputDir, STUDENT) },
    }),
    options,
  );
  const { weights, temperature } = mean;
  return { softLabels, teachers: files, weights, temperature, fit: mean.fit, student };
}

/** Labels by id, of every training row, for the fit. */
async function writeLabels({ data }: Config, file: string): Promise<string> {
  const { rows } = requireUniqueIds(await loadDataset(data.trainFiles, columnOptions(data)));
  const lines = rows.map(({ id, label }) => `"${id.replaceAll('"', '""')}",${label}\n`);
  await writeFileAtomic(file, `id,label\n${lines.join("")}`);
  return file;
}

interface Teaching {
  readonly folder: string;
  readonly folds: number;
  readonly options: TrainOptions;
}

/** The teacher's probabilities; undefined where its cross-validation was interrupted. */
async function fileOf(teacher: string | Config, { folder, folds, options }: Teaching): Promise<string | undefined> {
  if (typeof teacher !== "string") {
    const { input } = requireConfig(teacher);
    const { nSplits: _n, foldIdx: _f, ...data } = input.data ?? {};
    const training = { ...input.training, outputDir: folder };
    return (await crossValidate(defineConfig({ ...input, data, training }), folds, options)).outOfFold;
  }
  if (!isFolder(teacher)) return teacher;
  const file = join(teacher, CV_FILES.outOfFold);
  if (existsSync(file)) return file;
  throw new ConfigError(
    "DISTILL_TEACHERS",
    `teachers: ${teacher} holds no ${CV_FILES.outOfFold}, expected the folder of a finished cross-validation`,
    { hint: "A run has seen its training rows; qlora cv predicts each by a model that has not." },
  );
}
