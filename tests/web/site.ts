/** A trained run on the demo's task and the page that is written of it; both gone at the end of the scope. */
import { join } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { exportWeb, type ExportWebResult, train } from "../../index.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { buildIfStale } from "../../scripts/build/index.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

/** Longer than `maxLength`, so that truncation shows. */
const LONG = "Why? Because seven days and salt water, said the blue whale, are what plants need. ".repeat(3);

/** A run, its page, and rows to judge. */
export interface TestSite extends AsyncDisposable {
  readonly folder: string;
  readonly run: string;
  readonly site: string;
  readonly written: ExportWebResult;
  /** CSV of `rows`. */
  readonly file: string;
  readonly rows: readonly ArenaRow[];
}

/** Trains a moment and exports. */
export async function testSite(): Promise<TestSite> {
  await buildIfStale();
  const folder = await temporaryFolder();
  const config = await smallRun(folder.path, { data: { maxLength: 64, truncate: "thirds" } });
  await train(config);
  const run = config.training.outputDir;
  const site = join(folder.path, "site");
  const written = await exportWeb({ run, outputDir: site, title: "Who answered better?" });
  const file = join(folder.path, "rows.csv");
  const cell = (text: string): string => `"${JSON.stringify([text]).replaceAll('"', '""')}"`;
  const hard = ["Grüße, 世界 🙂", LONG, "It is 4 o'clock.\n\tReally."].map(cell).join(",");
  await writeFileAtomic(file, `${demoCsv(4, 11)}90,a,b,${hard},1,0,0\n`);
  const rows = (await loadDataset(file)).rows as readonly ArenaRow[];
  return {
    folder: folder.path,
    run,
    site,
    written,
    file,
    rows,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** What a visitor pastes for a row. */
export const textsOf = ({ prompt, responseA, responseB }: ArenaRow): Record<string, string> => ({
  prompt,
  response_a: responseA,
  response_b: responseB,
});
