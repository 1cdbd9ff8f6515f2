const importPattern =
  /(?:^|[\s;])(?:import|export)\s[^"'`;]*?from\s*["']([^"']+)["']|import\s*\(\s*["']([^"']+)["']|^\s*import\s*["']([^"']+)["']/gm;

/** Every module that a file's text imports or re-exports from, in any form. */
export function importsOf(code: string): string[] {
  return [...code.matchAll(importPattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}
