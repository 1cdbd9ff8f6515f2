/** The logits that a prediction has computed so far, in a file beside its output: a killed one goes on from there. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { ConfigError } from "../core/errors.ts";
import { isObject } from "../core/formats/json-object.ts";
import { formatValue } from "../core/options/describe.ts";
import type { RunListener } from "../runtime/events.ts";
import { type DiskFile, openToWrite } from "../runtime/files/disk.ts";
import { explainWriteErrors, writeFileAtomic } from "../runtime/files/files.ts";
import type { KeptRows } from "../runtime/training/evaluate.ts";

/** What must be the same for rows to belong together; all of it is JSON. */
export type PartialIdentity = Readonly<Record<string, string | number>>;

/** Which file, and what becomes of one that is there. */
export interface PartialOptions {
  readonly path: string;
  /** Go on from what the file has; otherwise it starts over. */
  readonly resume: boolean;
  readonly identity: PartialIdentity;
  /** Rows of a view, and numbers of a row. */
  readonly rows: number;
  readonly numLabels: number;
  readonly views: number;
  readonly onEvent?: RunListener | undefined;
}

/** One batch: where its rows stand in their view, and their logits (little-endian f32) in base64. */
interface Line {
  readonly view: number;
  readonly rows: readonly number[];
  readonly logits: string;
}

type Batch = Pick<Line, "view" | "rows"> & { readonly logits: Float32Array };

const lineOf = (value: object): string => {
  const json = JSON.stringify(value);
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
};

/** A line's value; undefined where it is torn or damaged. */
function valueOf(line: string): Readonly<Record<string, unknown>> | undefined {
  const json = line.slice(9);
  if (line[8] !== " " || crc32(json).toString(16).padStart(8, "0") !== line.slice(0, 8)) return undefined;
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A batch of the file; undefined where it is torn, damaged or of other rows. */
function batchOf(text: string, { rows, views, numLabels }: PartialOptions): Batch | undefined {
  const line = valueOf(text) as Partial<Line> | undefined;
  if (line === undefined || !Array.isArray(line.rows) || typeof line.logits !== "string") return undefined;
  const within = (value: unknown, end: number): boolean =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) < end;
  const bytes = Uint8Array.from(Buffer.from(line.logits, "base64"));
  const fits = bytes.length === line.rows.length * numLabels * 4;
  if (!within(line.view, views) || !line.rows.every((row) => within(row, rows)) || !fits) return undefined;
  return { view: line.view!, rows: line.rows, logits: new Float32Array(bytes.buffer) };
}

/** Rows that are done, by view; close it with `await using`. */
export class PartialLogits implements AsyncDisposable {
  readonly #file: DiskFile;
  /** [rows, numLabels] of each view; known rows only. */
  readonly #values: readonly Float32Array<ArrayBuffer>[];
  readonly #known: readonly Uint8Array[];

  private constructor(file: DiskFile, values: readonly Float32Array<ArrayBuffer>[], known: readonly Uint8Array[]) {
    this.#file = file;
    this.#values = values;
    this.#known = known;
  }

  /**
   * Opens the file, and with `resume` reads what it has; a line that a crash tore, and what follows it, is recomputed.
   * @throws ConfigError PREDICT_RESUME where the file is of another prediction; QloraError where it cannot be written
   */
  static async open(options: PartialOptions): Promise<PartialLogits> {
    const { path, resume, identity, rows, numLabels, views, onEvent } = options;
    const all = { ...identity, rows, numLabels, views };
    const values = Array.from({ length: views }, () => new Float32Array(rows * numLabels));
    const known = values.map(() => new Uint8Array(rows));
    const tell = (message: string): void => onEvent?.({ type: "info", message });
    let kept = lineOf(all);
    if (existsSync(path) && resume) {
      const [head = "", ...lines] = (await readFile(path, "utf8")).split("\n");
      checkIdentity(path, valueOf(head), all);
      for (const text of lines) {
        const batch = batchOf(text, options);
        if (batch === undefined) break;
        batch.rows.forEach((row, i) => {
          values[batch.view]!.set(batch.logits.subarray(i * numLabels, (i + 1) * numLabels), row * numLabels);
          known[batch.view]![row] = 1;
        });
        kept += `${text}\n`;
      }
      const done = known.reduce((sum, view) => sum + view.reduce((count, one) => count + one, 0), 0);
      tell(`${path}: going on after ${done} of ${rows * views} rows`);
    } else if (existsSync(path))
      tell(`${path}, which an earlier prediction left, begins anew; --resume goes on from it`);
    else if (resume) tell(`${path} is not there: nothing to go on from, all rows are computed`);
    await writeFileAtomic(path, kept);
    const file = await explainWriteErrors(path, () => openToWrite(path, "a"));
    return new PartialLogits(file, values, known);
  }

  /** [rows, numLabels] of every view, where all rows are done. */
  get whole(): Float32Array<ArrayBuffer>[] | undefined {
    return this.#known.every((view) => view.every((one) => one === 1)) ? [...this.#values] : undefined;
  }

  /** The rows of one view. */
  view(view: number): KeptRows {
    const [values, known] = [this.#values[view]!, this.#known[view]!];
    const width = values.length / known.length;
    return {
      get: (row) => (known[row] === 0 ? undefined : values.subarray(row * width, (row + 1) * width)),
      add: (rows, logits) => this.#add(view, rows, logits),
    };
  }

  async #add(view: number, rows: readonly number[], logits: Float32Array<ArrayBuffer>): Promise<void> {
    const bytes = Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength);
    const line: Line = { view, rows, logits: bytes.toString("base64") };
    await explainWriteErrors(this.#file.path, () => this.#file.write(Buffer.from(lineOf(line))));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file.close();
  }
}

function checkIdentity(
  path: string,
  before: Readonly<Record<string, unknown>> | undefined,
  now: PartialIdentity,
): void {
  if (before === undefined) {
    throw new ConfigError(
      "PREDICT_RESUME",
      `${path}: its first line is damaged, or the file is none of qlora predict`,
      {
        hint: "Remove the file, or leave --resume out, to compute all rows.",
      },
    );
  }
  const problems = Object.entries(now)
    .filter(([key, value]) => before[key] !== value)
    .map(
      ([key, value]) =>
        `${path}: ${key}: the rows that are done have ${formatValue(before[key])}, got ${formatValue(value)}`,
    );
  if (problems.length === 0) return;
  throw new ConfigError("PREDICT_RESUME", problems, {
    hint: "Give what the first command had, or leave --resume out to compute all rows.",
  });
}
