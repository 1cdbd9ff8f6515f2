/** The Llama architecture against transformers + peft (f32): Llama 3's RoPE scaling, and Qwen2's biases. */
import { join } from "node:path";
import { llama, lora } from "../../plugins/index.ts";
import { fileHost } from "../../runtime/files/folder.ts";
import { parityTests } from "../support/parity.ts";

for (const model of ["llama", "qwen2"] as const) {
  parityTests({
    name: `parity-${model}`,
    adapter: lora,
    source: (plugins) => llama({ checkpoint: join(plugins, `tiny-${model}-nf4`) }).create(fileHost),
  });
}
