/** Qwen3 against transformers + peft (f32): queries and keys normed by head, tied embeddings; NF4, NF4 beside 16 bits, FP4. */
import { join } from "node:path";
import { lora, qwen3 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";

for (const [name, checkpoint] of [
  ["parity-qwen3", "tiny-qwen3-nf4"],
  ["parity-qwen3-dynamic", "tiny-qwen3-dynamic-nf4"],
  ["parity-qwen3-fp4", "tiny-qwen3-fp4"],
] as const) {
  parityTests({
    folder: "turn2",
    name,
    adapterOf: "parity-qwen3",
    adapter: lora,
    source: (turn2) => qwen3({ checkpoint: join(turn2, checkpoint) }).create(fileHost),
  });
}
