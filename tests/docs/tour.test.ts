/** The tours of CONTRIBUTING.md: short, and each file is reached from one before it. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { importsOf } from "../support/imports.ts";

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");

/** Files that the part of the page from `title` on names, in their order. */
function tour(title: string): string[] {
  const [, rest] = page.split(`${title}\n`);
  const [list] = rest!.trimStart().split("\n\n");
  return [...list!.matchAll(/`((?:core|kernels|plugins|runtime|sdk)\/[\w./-]+\.ts)`/g)].map(([, path]) => path!);
}

/** What the loop meets as a value: a plugin of the config, a data format of the list, the model's own parts, what set-up opened. */
const HELD = /^plugins\/|\/formats\/|^kernels\/(?:decoder|lora-linear)\/|\/optimizer-step\.ts$/;

/** Files that a file imports; an index re-exports what it imports. */
function reaches(file: string): string[] {
  const direct = importsOf(readFileSync(join(root, file), "utf8")).flatMap((name) => {
    if (name.startsWith(".")) return normalize(join(dirname(file), name));
    return /^qlora\/(core|kernels)$/.test(name) ? `${name.slice("qlora/".length)}/index.ts` : [];
  });
  return direct.flatMap((path) =>
    /(^|\/)index\.ts$/.test(path) && existsSync(join(root, path)) && path !== file && !path.includes("/formats/")
      ? [path, ...(path.split("/").length === 2 ? reaches(path) : [])]
      : path,
  );
}

describe.each([
  ["A CSV row, from the file to a matrix product:", 28],
  ["A gradient, from the loss to new parameters:", 10],
] as const)("%s", (title, most) => {
  const files = tour(title);

  test(`is at most ${most} files, and all are there`, () => {
    expect(files.length).toBeGreaterThan(5);
    expect(files.length).toBeLessThanOrEqual(most);
    expect(new Set(files).size).toBe(files.length);
    expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });

  test("each file is reached from one before it, but for what is met as a value", () => {
    const reached = new Set<string>();
    const lost: string[] = [];
    for (const [i, file] of files.entries()) {
      if (i > 0 && !reached.has(file) && !HELD.test(file)) lost.push(file);
      for (const path of reaches(file)) reached.add(path);
    }
    expect(lost).toEqual([]);
  });
});
