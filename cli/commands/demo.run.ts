import { join, relative } from "node:path";
import { demoCsv } from "../../demo/generate.ts";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import type { CommandData } from "../command.ts";
import { notes } from "../output.ts";

const DATA = "output/demo/arena.csv";
const RUN = "output/demo/run";
const PREDICTIONS = "output/demo/predictions.csv";
const CONFIG = join(import.meta.dir, "../../demo/qlora.config.ts");

/** Makes the data, runs three commands as one would type them, and says where the results are; the first failure ends it. */
export async function demo({ run, values }: CommandData): Promise<number> {
  const started = performance.now();
  await writeFileAtomic(DATA, demoCsv(600, 7));
  const device = Object.entries(values["device"] ?? {}).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const near = relative(process.cwd(), CONFIG);
  const commands = [
    ["train", "--config", near.startsWith("..") ? CONFIG : near],
    ["eval", RUN],
    ["predict", RUN, DATA, "--output", PREDICTIONS],
  ].map((command) => [...command, ...device]);
  for (const command of commands) {
    notes.log(`\n$ bunx qlora ${command.join(" ")}`);
    const exit = await run(command);
    if (exit !== 0) return exit;
  }
  notes.log(`\nDone in ${((performance.now() - started) / 1000).toFixed(0)} s.`);
  notes.log(`Report:      ${join(RUN, "report.html")}`);
  notes.log(`Adapter:     ${join(RUN, "adapter_model.safetensors")} (PEFT's format)`);
  notes.log(`Predictions: ${PREDICTIONS}`);
  return 0;
}
