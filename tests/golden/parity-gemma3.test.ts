/** Gemma-3 against transformers + peft (f32): windows of 16 in six layers of seven, two bases of RoPE, queries and keys normed by head. */
import { join } from "node:path";
import { gemma3, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";

parityTests({
  folder: "turn2",
  name: "parity-gemma3",
  adapter: lora,
  source: (turn2) => gemma3({ checkpoint: join(turn2, "tiny-gemma3-nf4") }).create(fileHost),
});
