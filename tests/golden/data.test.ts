/** The golden data is whole: every file is listed, and has the bytes that were recorded. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { goldenPath } from "../support/reference.ts";

const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
const listed = readFileSync(goldenPath("SHA256SUMS"), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => line.split("  ") as [string, string]);

// A machine that takes little along may lack turn2 as a whole; half of it is a fault.
const without = existsSync(goldenPath("turn2")) ? [] : ["turn2/"];
if (without.length > 0) console.error("SKIPPED: tests/golden/data/turn2 is not in this copy of the repository");
const wanted = listed.filter(([, name]) => !without.some((prefix) => name.startsWith(prefix)));

test("every file of the golden data has its recorded bytes", () => {
  expect(listed.length).toBeGreaterThan(80);
  const changed = wanted.filter(([sum, name]) => sha256(goldenPath(name)) !== sum).map(([, name]) => name);
  expect(changed).toEqual([]);
});

test("no file of it is unlisted", () => {
  const found = (readdirSync(goldenPath(), { recursive: true }) as string[])
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => statSync(goldenPath(name)).isFile() && !["SHA256SUMS", "README.md"].includes(name));
  expect(found.sort()).toEqual(wanted.map(([, name]) => name).sort());
});
