/** (IA)^3 on the tiny Gemma-2 against peft (f32). */
import { gemma2, ia3 } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";
import { tinyCheckpoint } from "../support/reference.ts";

parityTests({
  name: "parity-ia3",
  adapter: ia3,
  source: () => gemma2({ checkpoint: tinyCheckpoint }).create(fileHost),
});
