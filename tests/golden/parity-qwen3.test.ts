/** Qwen3 against transformers + peft (f32): queries and keys normed by head, tied embeddings. */
import { join } from "node:path";
import { lora, qwen3 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";

parityTests({
  folder: "turn2",
  name: "parity-qwen3",
  adapter: lora,
  source: (turn2) => qwen3({ checkpoint: join(turn2, "tiny-qwen3-nf4") }).create(fileHost),
});
