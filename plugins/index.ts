/** The plugins that ship with qlora: `import { gemma2, lora, adamW8bit } from "qlora/plugins"`. */
export { accuracy } from "./accuracy/index.ts";
export { adamW } from "./adamw/index.ts";
export { adamW8bit } from "./adamw8bit/index.ts";
export { gemma2 } from "./gemma2/index.ts";
export { logLoss } from "./log-loss/index.ts";
export { lora } from "./lora/index.ts";
