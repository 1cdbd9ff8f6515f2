/** report.html: a run on one page that needs nothing but itself. */
import { join } from "node:path";
import { writeFileAtomic } from "../files/files.ts";
import { RUN_FILES } from "../folder/folder.ts";
import { renderReport } from "./page.ts";
import { readReportRun } from "./run.ts";

export type { EvaluationRecord } from "../folder/evaluation-record.ts";

/**
 * Writes report.html into a run's folder, from its run.json, metrics.jsonl and, where there is one, evaluation.json; the
 * same files give the same bytes.
 * @returns its path
 * @throws QloraError RUN_NOT_FOUND, RUN_RECORD_INVALID, METRICS_DAMAGED or EVALUATION_INVALID naming the file
 */
export async function writeReport(outputDir: string): Promise<string> {
  const path = join(outputDir, RUN_FILES.report);
  await writeFileAtomic(path, renderReport(await readReportRun(outputDir)));
  return path;
}
