/** The whole of `npm run demo` after set-up: makes the data, trains, evaluates, predicts, and says where the report is. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { writeFileAtomic } from "../core/files.ts";
import { demoCsv } from "./generate.ts";

const root = join(import.meta.dir, "..");
const data = "output/demo/arena.csv";
const run = "output/demo/run";
const predictions = "output/demo/predictions.csv";

function qlora(...args: readonly string[]): void {
  console.error(`\n$ bunx qlora ${args.join(" ")}`);
  const { status } = spawnSync(process.execPath, [join(root, "cli/main.ts"), ...args], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

const started = performance.now();
await writeFileAtomic(data, demoCsv(600, 7));
qlora("train", "--config", join(root, "demo/qlora.config.ts"));
qlora("eval", run);
qlora("predict", run, data, "--output", predictions);
console.error(`\nDone in ${((performance.now() - started) / 1000).toFixed(0)} s.`);
console.error(`Report:      ${join(run, "report.html")}`);
console.error(`Adapter:     ${join(run, "adapter_model.safetensors")} (PEFT's format)`);
console.error(`Predictions: ${predictions}`);
