/** reporters.json of a run's folder: what each tracker has of the run, so that a later start or `qlora sync` goes on from there. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { damaged, isObject, parseJsonObject } from "../../core/formats/json-object.ts";
import type { ReporterState } from "../../core/plugin/reporter.ts";
import { RUN_FILES, writeJson } from "../folder/folder.ts";

/** What a reporter has of a run. */
export interface Delivered {
  /** What its `start` gave. */
  readonly state: ReporterState | undefined;
  /** Entries of the log, from the first, that it took. */
  readonly entries: number;
  /** Whether it was told the run's end, with its files. */
  readonly finished: boolean;
}

/** The file of one run. */
export class Deliveries {
  readonly #path: string;
  readonly #all: Map<string, Delivered>;
  #writing = Promise.resolve();

  private constructor(path: string, all: Map<string, Delivered>) {
    this.#path = path;
    this.#all = all;
  }

  /** Reads it; empty where there is none. @throws ModelError where it is damaged */
  static async open(outputDir: string): Promise<Deliveries> {
    const path = join(outputDir, RUN_FILES.reporters);
    if (!existsSync(path)) return new Deliveries(path, new Map());
    const hint = "Remove it; trackers then get the run anew.";
    const json = parseJsonObject(await readFile(path, "utf8"), damaged(path, hint));
    const known = Object.entries(json).flatMap(([name, value]): [string, Delivered][] => {
      if (!isObject(value)) return [];
      const { state, entries, finished } = value;
      const count = Number.isSafeInteger(entries) && Number(entries) >= 0 ? Number(entries) : 0;
      return [[name, { state: isObject(state) ? state : undefined, entries: count, finished: finished === true }]];
    });
    return new Deliveries(path, new Map(known));
  }

  get(name: string): Delivered | undefined {
    return this.#all.get(name);
  }

  /** Notes what a reporter has, and writes the file. */
  async set(name: string, delivered: Delivered): Promise<void> {
    this.#all.set(name, delivered);
    const next = this.#writing.then(() => writeJson(this.#path, Object.fromEntries(this.#all)));
    this.#writing = next.catch(() => {});
    await next;
  }
}
