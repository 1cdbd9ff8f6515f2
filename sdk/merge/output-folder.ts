/** Where a merged checkpoint may go: replacing a folder deletes what it holds, so no more than an older checkpoint is replaced. */
import { existsSync, realpathSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, relative, isAbsolute, sep } from "node:path";
import { ConfigError } from "../../core/errors.ts";

/**
 * Refuses a folder that holds anything, or, to be overwritten, anything but a checkpoint's files.
 * @throws ConfigError OUTPUT_NOT_EMPTY or OUTPUT_NOT_REPLACED
 */
export async function checkOutputFolder(outputDir: string, overwrite: boolean): Promise<void> {
  const held = await readdir(outputDir, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code !== "ENOTDIR") throw error;
    throw new ConfigError("OUTPUT_NOT_A_FOLDER", `${outputDir}: is a file, expected a new or empty folder`, {
      hint: "Name another folder.",
    });
  });
  if (held.length === 0) return;
  if (!overwrite) {
    throw new ConfigError("OUTPUT_NOT_EMPTY", `${outputDir}: expected a new or empty folder, found ${held[0]!.name}`, {
      hint: "Name another folder, or replace it with --overwrite.",
    });
  }
  const foreign = held.find((entry) => entry.isDirectory() || FOREIGN.includes(entry.name))?.name;
  if (foreign === undefined && existsSync(join(outputDir, "config.json"))) return;
  const found = foreign === undefined ? "found no config.json" : `found ${foreign}`;
  throw new ConfigError("OUTPUT_NOT_REPLACED", `${outputDir}: expected a merged checkpoint to overwrite, ${found}`, {
    hint: "Nothing was deleted. Name a new folder, or empty this one yourself.",
  });
}

/** Files of a trained adapter and of a package, which a merged checkpoint never has. */
const FOREIGN: readonly string[] = ["run.json", "adapter_config.json", "package.json"];

/**
 * Refuses a folder that holds what is merged.
 * @throws ConfigError OUTPUT_HOLDS_INPUT
 */
export function checkApart(outputDir: string, what: string, input: string): void {
  if (!existsSync(outputDir)) return;
  const way = relative(realpathSync(outputDir), realpathSync(input));
  if (way === ".." || way.startsWith(`..${sep}`) || isAbsolute(way)) return;
  throw new ConfigError("OUTPUT_HOLDS_INPUT", `${outputDir}: expected another folder than that of ${what}, ${input}`, {
    hint: "Nothing was deleted. Name a new folder.",
  });
}
