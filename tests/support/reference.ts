import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");

/** The tiny NF4 Gemma-2 checkpoint that ships with the project. */
export const tinyCheckpoint = join(root, "assets", "tiny-gemma2-nf4");

/** A file of the golden data that bitsandbytes, peft and transformers made; tests/golden/data/README.md lists it. */
export const goldenPath = (...parts: string[]): string => join(root, "tests", "golden", "data", ...parts);
