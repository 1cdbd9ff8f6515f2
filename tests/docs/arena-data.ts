/** The files that docs/arena.md works on. */
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { openCsv } from "../../runtime/data/csv.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";

const csvCell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The first rows of a PandaLM file, with some of its columns. */
async function writePart(from: string, to: string, rows: number, columns: readonly string[]): Promise<void> {
  const csv = openCsv(from);
  const all = csv.map((cells) => columns.map((name) => csvCell(cells[csv.column(name)!]!)).join(","));
  await writeFileAtomic(to, `${[columns.join(","), ...all.slice(0, rows)].join("\n")}\n`);
}

/** Puts train.csv, test.csv and the tiny checkpoint into a folder. */
export async function prepareArena(folder: string): Promise<void> {
  const texts = ["id", "prompt", "response_a", "response_b"];
  const winners = ["winner_model_a", "winner_model_b", "winner_tie"];
  await writePart(goldenPath("pandalm", "pandalm-1.csv"), join(folder, "train.csv"), 64, [...texts, ...winners]);
  await writePart(goldenPath("pandalm", "pandalm-2.csv"), join(folder, "test.csv"), 24, texts);
  await symlink(tinyCheckpoint, join(folder, "tiny-gemma2-nf4"));
}
