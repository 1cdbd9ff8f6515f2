/**
 * K folds, then their ensemble: every fold's model predicts rows that none has seen, and the mean is scored beside them.
 *
 *   bun examples/kfold-ensemble.ts
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { crossValidate, ensemble, formatProbabilities, predict, type ProbabilityTable, writeFileAtomic } from "qlora";
import { outputDir, printTable, tinyConfig, writeRows } from "./tiny.ts";

const FOLDS = 3;
const config = await tinyConfig("kfold", { data: { foldBy: "hash" }, training: { maxSteps: 6 } });
const { folds, metrics } = await crossValidate(config, FOLDS);
console.log(`out-of-fold log loss ${metrics!["eval_log_loss"]!.toFixed(4)}`);

const test = await writeRows("test.csv", 30, 11);
const files: string[] = [];
for (const { outputDir: run, fold } of folds) {
  const file = join(outputDir, `fold-${fold}.csv`);
  await writeFileAtomic(file, formatProbabilities(await predict({ run, files: [test] })));
  files.push(file);
}

// The winner's column of each row, counted from the three winner columns at the end of the line.
const winners = (await readFile(test, "utf8"))
  .trim()
  .split("\n")
  .slice(1)
  .map((line) => line.split(",").slice(-3).indexOf("1"));
const logLoss = ({ rows }: ProbabilityTable): number =>
  rows.reduce((sum, { values }, i) => sum - Math.log(values[winners[i]!]!), 0) / rows.length;

const rows = files.map(async (file, fold) => ({
  model: `fold ${fold}`,
  "test log loss": logLoss(await ensemble({ files: [file] })),
}));
printTable([...(await Promise.all(rows)), { model: "ensemble", "test log loss": logLoss(await ensemble({ files })) }]);
