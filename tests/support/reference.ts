import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");

/** Where the golden data lies: `QLORA_REFERENCE`, else `shared/` inside or beside the checkout. */
function sharedDir(): string | undefined {
  const candidates = [process.env["QLORA_REFERENCE"], join(root, "shared"), join(root, "..", "shared")];
  return candidates.find((dir) => dir !== undefined && existsSync(join(dir, "reference")));
}

let told = false;

/** Path of a file of the golden data, or undefined (said once, loudly) where the data is not at hand. */
export function sharedPath(...parts: string[]): string | undefined {
  const dir = sharedDir();
  if (dir === undefined) {
    if (!told)
      console.error(
        "SKIPPED: golden data (shared/reference) not found; set QLORA_REFERENCE to the folder that holds reference/",
      );
    told = true;
    return undefined;
  }
  return join(dir, ...parts);
}

/** The folder of golden data made by bitsandbytes, peft and transformers; undefined where it is not at hand. */
export function referenceDir(): string | undefined {
  return sharedPath("reference");
}

/** The tiny NF4 Gemma-2 checkpoint that ships with the project. */
export const tinyCheckpoint = join(root, "assets", "tiny-gemma2-nf4");
