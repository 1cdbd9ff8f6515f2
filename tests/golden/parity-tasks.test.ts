/** Regression and multi-label against transformers + peft (f32): MSELoss and BCEWithLogitsLoss on Qwen3. */
import { join } from "node:path";
import { lora, qwen3 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";

for (const [name, task] of [
  ["parity-regression", "regression"],
  ["parity-multilabel", "multi-label"],
] as const) {
  parityTests({
    folder: "turn2",
    name,
    task,
    adapter: lora,
    source: (turn2) => qwen3({ checkpoint: join(turn2, "tiny-qwen3-nf4") }).create(fileHost),
  });
}
