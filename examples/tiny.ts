/** The config that the examples change: the bundled 1.5M-parameter Gemma-2 on the demo's task, a few short steps. */
import { join } from "node:path";
import { type Config, type ConfigInput, defineConfig, writeFileAtomic } from "qlora";
import { accuracy, adamW8bit, gemma2, logLoss, lora } from "qlora/plugins";
import { demoCsv } from "../demo/generate.ts";

const root = join(import.meta.dir, "..");

/** Where the examples write; the first argument, where one is given. */
export const outputDir = process.argv[2] ?? "output/examples";

/** Rows as arena CSV: three classes (A wins, B wins, tie), equally frequent. */
export async function writeRows(name: string, count: number, seed: number): Promise<string> {
  const file = join(outputDir, name);
  await writeFileAtomic(file, demoCsv(count, seed));
  return file;
}

/** A small run; `parts` replace what they name. */
export async function tinyConfig(name: string, parts: Partial<ConfigInput> = {}): Promise<Config> {
  return defineConfig({
    model: gemma2({ checkpoint: join(root, "assets/tiny-gemma2-nf4") }),
    adapter: lora({ rank: 8, alpha: 16, targetModules: ["q_proj", "v_proj"] }),
    optimizer: adamW8bit(),
    metrics: [logLoss(), accuracy()],
    ...parts,
    data: {
      trainFiles: [await writeRows("arena.csv", 96, 7)],
      nSplits: 4,
      maxLength: 64,
      cacheDir: join(outputDir, "cache"),
      ...parts.data,
    },
    training: {
      outputDir: join(outputDir, name),
      overwriteOutputDir: true,
      perDeviceTrainBatchSize: 8,
      perDeviceEvalBatchSize: 24,
      learningRate: 3e-3,
      lrSchedulerType: "constant",
      maxSteps: 8,
      loggingSteps: 1,
      evalStrategy: "epoch",
      saveStrategy: "no",
      ...parts.training,
    },
  });
}

/** Prints a table: numbers to the right, words to the left. */
export function printTable(rows: readonly Readonly<Record<string, string | number>>[]): void {
  const keys = Object.keys(rows[0]!);
  const show = (value: string | number): string =>
    typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : String(value);
  const width = (key: string): number => Math.max(key.length, ...rows.map((row) => show(row[key]!).length));
  const cell = (text: string, key: string, value: string | number): string =>
    typeof value === "number" ? text.padStart(width(key)) : text.padEnd(width(key));
  console.log(keys.map((key) => cell(key, key, rows[0]![key]!)).join("  "));
  for (const row of rows) console.log(keys.map((key) => cell(show(row[key]!), key, row[key]!)).join("  "));
}
