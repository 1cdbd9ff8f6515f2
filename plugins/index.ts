/** The plugins that ship with qlora: `import { gemma2, lora, adamW8bit } from "qlora/plugins"`. */
export { accuracy } from "./accuracy/index.ts";
export { adafactor } from "./adafactor/index.ts";
export { adamW } from "./adamw/index.ts";
export { adamW8bit } from "./adamw8bit/index.ts";
export { auc } from "./auc/index.ts";
export { brier } from "./brier/index.ts";
export { confusion } from "./confusion/index.ts";
export { ece } from "./ece/index.ts";
export { f1 } from "./f1/index.ts";
export { gemma2 } from "./gemma2/index.ts";
export { ia3 } from "./ia3/index.ts";
export { lion8bit } from "./lion8bit/index.ts";
export { logLoss } from "./log-loss/index.ts";
export { lora } from "./lora/index.ts";
export { mcc } from "./mcc/index.ts";
export { lmsysKaggle, lmsysSeed, type Preset, presets } from "./presets.ts";
export { muon } from "./muon/index.ts";
export { sgd } from "./sgd/index.ts";
