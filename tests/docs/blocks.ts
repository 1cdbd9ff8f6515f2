/** Code blocks of a Markdown file: read, run, and their printed output compared. */
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../runtime/files/files.ts";

const root = join(import.meta.dir, "../..");

/** A block of code, and the block of text that follows it at once: what it prints. */
export interface DocBlock {
  readonly language: string;
  readonly code: string;
  readonly output: string | undefined;
}

/** Blocks in order; those of text belong to the block before them. */
export function readBlocks(markdown: string): DocBlock[] {
  const blocks = [...markdown.matchAll(/^```(\w+)\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)^```$)?/gm)];
  return blocks
    .filter(([, language]) => language !== "text")
    .map(([, language, code, output]) => ({ language: language!, code: code!, output }));
}

/** Makes a folder in which `bunx qlora` is this checkout, and in which "qlora" may be imported. */
export async function docsFolder(name: string): Promise<string> {
  const folder = join(root, ".cache", "docs", `${name}-${process.pid}`);
  await mkdir(join(folder, "bin"), { recursive: true });
  const bunx = join(folder, "bin", "bunx");
  await writeFileAtomic(bunx, `#!/bin/sh\nshift\nexec "${process.execPath}" "${join(root, "cli/main.ts")}" "$@"\n`);
  await chmod(bunx, 0o755);
  return folder;
}

/** Runs shell code as a terminal shows it: both streams in the order in which they are written. */
export async function runShell(code: string, folder: string): Promise<{ readonly out: string; readonly exit: number }> {
  const bun = join(process.execPath, "..");
  const child = Bun.spawn(["sh", "-c", `set -e\nexec 2>&1\n${code}`], {
    cwd: folder,
    stdout: "pipe",
    stdin: "ignore",
    env: { ...process.env, PATH: `${join(folder, "bin")}:${bun}:${process.env["PATH"]}`, NO_COLOR: "1", LC_ALL: "C" },
  });
  return { out: await new Response(child.stdout).text(), exit: await child.exited };
}

/** What differs from run to run: speeds, times, memory, the device's name. */
const CHANGING = [
  /\S+(?= samples\/s)/g,
  /\S+(?= tokens\/s)/g,
  /(?<=ETA )\S+/g,
  /\S+(?= GiB)/g,
  // What the memory plan takes for the device.
  /(?<=memory auto: ).*/g,
  /(?<=evaluated in )\S+/g,
  /(?<=done in )\S+/g,
  // Samples a second and start of a run, in the table of runs.
  /[\d.]+\s+\d{4}-\d\d-\d\d \d\d:\d\d/g,
];

/** A line of progress, which comes where a part takes its time: how many there are says how busy the machine is. */
const PROGRESS = /^(?:fold \d+: )?(?!step )[a-z][A-Za-z, ]* (?:\d+\/\d+|\d+% of \S+ \S+)(?:  ETA \S+)?$/;

/** Numbers that are no counts may differ by so much between tiers and drivers. */
const TOLERANCE = { absolute: 5e-3, relative: 0.02 };

/** What `differingLines` compares. */
export interface Comparison {
  /**
   * The numbers of `want` come from a device of another kind: theirs with decimals may be any, and so may which of them is
   * marked as the best; what eval says of a placement that the other device did not choose is passed over. Default false.
   */
  readonly otherDevice?: boolean;
}

/** Lines of `got` that are not as `want` says; a line `...` of `want` stands for any lines. */
export function differingLines(got: string, want: string, { otherDevice = false }: Comparison = {}): string[] {
  const lines = (text: string): string[] =>
    text
      .trimEnd()
      .split("\n")
      .filter((line) => !PROGRESS.test(line))
      .filter((line) => !otherDevice || !line.startsWith("memory: "))
      // In tests and under CI the note's sign is a word.
      .map((line) => line.replace(/^\[info\] /, "ℹ "))
      .map((line) => CHANGING.reduce((kept, pattern) => kept.replaceAll(pattern, "#"), line.trimEnd()));
  const [all, wanted] = [lines(got), lines(want)];
  const problems: string[] = [];
  let at = 0;
  wanted.forEach((line, i) => {
    if (line === "...") {
      const next = wanted[i + 1];
      while (at < all.length && (next === undefined || !sameLine(all[at]!, next, otherDevice))) at++;
      return;
    }
    const found = all[at++];
    if (found === undefined || !sameLine(found, line, otherDevice))
      problems.push(`expected ${line}\n     got ${found ?? "nothing"}`);
  });
  return at < all.length ? [...problems, ...all.slice(at).map((line) => `unexpected ${line}`)] : problems;
}

const NUMBER = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?/g;

function sameLine(got: string, want: string, otherDevice: boolean): boolean {
  const words = (line: string): string => {
    const masked = line.replaceAll(NUMBER, "0").replaceAll(/\s+/g, " ");
    return otherDevice ? masked.replaceAll(/\b0( %)?\*/g, "0$1") : masked;
  };
  if (words(got) !== words(want)) return false;
  const numbers = (line: string): string[] => line.match(NUMBER) ?? [];
  const gotten = numbers(got);
  return numbers(want).every((text, i) => {
    if (!/[.e]/.test(text)) return text === gotten[i];
    if (otherDevice) return true;
    const [a, b] = [Number(gotten[i]), Number(text)];
    return Math.abs(a - b) <= TOLERANCE.absolute + TOLERANCE.relative * Math.abs(b);
  });
}
