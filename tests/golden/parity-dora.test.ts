/** DoRA on the tiny Gemma-2 against peft (f32). */
import { dora, gemma2 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";
import { tinyCheckpoint } from "../support/reference.ts";

parityTests({
  name: "parity-dora",
  adapter: dora,
  source: () => gemma2({ checkpoint: tinyCheckpoint }).create(fileHost),
  // PEFT saves the vector under its module's name.
  gradientName: (name) => name.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector"),
});
