/**
 * Fuzzing of one parser: damaged inputs by seed, each of which must give a result or a QloraError of bounded length in bounded
 * time. A file NAME.test.ts calls {@link fuzz}; CI runs a fixed count of inputs, `bun run fuzz --minutes N` more.
 *
 * @example
 * fuzz({ name: "csv", kind: "text", corpus: ["a,b\n1,2\n"], run: (input) => readCsv(inFile(input, "x.csv")) });
 */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { dice, hash, mutateBytes, mutateJson, mutateSafetensors, mutateText, type Dice } from "./mutate.ts";

/** A damaged input; the same bytes as text. */
export interface FuzzInput {
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** A parser, and what it is fed with. */
export interface FuzzTarget {
  readonly name: string;
  /**
   * How inputs are damaged: `json` changes types, keys and structure and now and then breaks the text, `value` stays JSON
   * (for what takes a parsed value), `safetensors` changes the header with a length that fits.
   */
  readonly kind: "bytes" | "text" | "json" | "value" | "safetensors";
  /** Whole inputs, all of which the parser takes. */
  readonly corpus: readonly (string | Uint8Array)[];
  /** How many inputs CI tries; default 400. */
  readonly inputs?: number;
  /** CPU time that one input may take, in ms; default 2000. */
  readonly boundMs?: number;
  /** Feeds the parser; throws an Error of its own where a result is wrong. */
  readonly run: (input: FuzzInput) => unknown;
}

/** Longest message and hint of an error, in characters. */
const MAX_MESSAGE = 4096;
/** No input may hold the thread for so long, however busy the machine is. */
const HANG_MS = 60_000;
const DEFAULT_INPUTS = 400;
const DEFAULT_BOUND_MS = 2000;

const env = (name: string): string | undefined => process.env[name];
/** Fixed, so that CI tries the same inputs every time; `random` explores and is printed. */
const seed = env("QLORA_TEST_SEED") === "random" ? Date.now() % 1_000_000 : Number(env("QLORA_TEST_SEED") ?? 1);
/** Set by scripts/fuzz.ts: seconds for each file, in place of a count; one input alone; one target alone. */
const secondsOfFile = env("QLORA_FUZZ_SECONDS");
const onlyInput = env("QLORA_FUZZ_INPUT");
const onlyTarget = env("QLORA_FUZZ_TARGET");

let folder: string | undefined;
let targetsOfFile = 0;

/** Writes an input where a parser can open it; the file is the same for every input of that name. */
export function inFile({ bytes }: FuzzInput, name: string): string {
  folder ??= mkdtempSync(join(tmpdir(), "qlora-fuzz-"));
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const toBytes = (whole: string | Uint8Array): Uint8Array => (typeof whole === "string" ? encoder.encode(whole) : whole);
const toText = (whole: string | Uint8Array): string => (typeof whole === "string" ? whole : decoder.decode(whole));

function damage({ kind, corpus }: FuzzTarget, roll: Dice): Uint8Array {
  const whole = roll.pick(corpus);
  const other = roll.pick(corpus);
  if (kind !== "value" && roll.chance(0.01)) return new Uint8Array(0);
  switch (kind) {
    case "bytes":
      return mutateBytes(toBytes(whole), roll, toBytes(other));
    case "text":
      return encoder.encode(mutateText(toText(whole), roll, toText(other)));
    case "safetensors":
      return mutateSafetensors(toBytes(whole), roll, toBytes(other));
    case "value":
      return encoder.encode(mutateJson(toText(whole), roll));
    case "json":
      return roll.chance(0.85)
        ? encoder.encode(mutateJson(toText(whole), roll))
        : mutateBytes(toBytes(whole), roll, toBytes(other));
  }
}

/** Input `index` of a target: the corpus as it is first, then damaged ones; the same for the same seed. */
export function inputOf(target: FuzzTarget, index: number): FuzzInput {
  const whole = target.corpus[index];
  const roll = dice((hash(`${target.name} ${seed}`) ^ Math.imul(index + 1, 0x9e3779b1)) >>> 0);
  const bytes = whole === undefined ? damage(target, roll) : toBytes(whole);
  return { bytes, text: decoder.decode(bytes) };
}

const pollution = (): string => JSON.stringify(Object.getOwnPropertyNames(Object.prototype).sort());

/** What is wrong with how an input ended; undefined where it gave a result or an error that a user can read. */
async function fault(target: FuzzTarget, input: FuzzInput): Promise<string | undefined> {
  const before = pollution();
  const start = process.cpuUsage();
  let wrong: string | undefined;
  try {
    await target.run(input);
  } catch (error) {
    if (!(error instanceof QloraError)) {
      const told = error instanceof Error ? (error.stack ?? error.message) : String(error);
      wrong = `is no QloraError: ${told.slice(0, 2000)}`;
    } else if (error.message.length + (error.hint?.length ?? 0) > MAX_MESSAGE)
      wrong = `has a message of ${error.message.length} characters: ${error.message.slice(0, 200)}`;
  }
  const { user, system } = process.cpuUsage(start);
  const took = (user + system) / 1000;
  if (took > (target.boundMs ?? DEFAULT_BOUND_MS)) wrong ??= `took ${Math.round(took)} ms of CPU time`;
  return pollution() === before ? wrong : "changed Object.prototype";
}

function report({ name }: FuzzTarget, index: number, wrong: string, { bytes, text }: FuzzInput): string {
  const shown = JSON.stringify(text.slice(0, 1000));
  const again = `bun run fuzz --target ${name} --seed ${seed} --input ${index}`;
  return `fuzz target ${name}, seed ${seed}, input ${index} (${bytes.length} bytes) ${wrong}\ninput: ${shown}\nagain: ${again}`;
}

/** Runs inputs until one is at fault; tells it, or undefined and how many were tried. */
export async function findFault(
  target: FuzzTarget,
  more: (tried: number) => boolean,
  first = 0,
): Promise<{ readonly told: string | undefined; readonly tried: number }> {
  const shared = new Int32Array(new SharedArrayBuffer(8)).fill(-1);
  const watchdog = new Worker(new URL("watchdog.ts", import.meta.url).href);
  watchdog.postMessage({ shared, name: target.name, seed, boundMs: HANG_MS });
  try {
    let tried = 0;
    for (let index = first; more(tried); index++, tried++) {
      const input = inputOf(target, index);
      Atomics.store(shared, 1, Date.now() & 0x7fffffff);
      Atomics.store(shared, 0, index);
      const wrong = await fault(target, input);
      Atomics.store(shared, 0, -1);
      if (wrong !== undefined) return { told: report(target, index, wrong, input), tried: tried + 1 };
    }
    return { told: undefined, tried };
  } finally {
    watchdog.terminate();
  }
}

/** Registers the test of a target. */
export function fuzz(target: FuzzTarget): void {
  if (onlyTarget !== undefined && onlyTarget !== target.name) return;
  targetsOfFile++;
  test(`fuzz ${target.name}`, async () => {
    const end = Date.now() + (Number(secondsOfFile) * 1000) / targetsOfFile;
    const count = target.inputs ?? DEFAULT_INPUTS;
    const more = (tried: number): boolean =>
      onlyInput === undefined ? (secondsOfFile === undefined ? tried < count : Date.now() < end) : tried < 1;
    const { told, tried } = await findFault(target, more, Number(onlyInput ?? 0));
    if (secondsOfFile !== undefined || env("QLORA_TEST_SEED") === "random")
      console.error(`fuzz ${target.name}: ${tried} inputs, seed ${seed}`);
    expect(told).toBeUndefined();
  }, 3_600_000);
}

afterAll(() => {
  targetsOfFile = 0;
  if (folder !== undefined) rmSync(folder, { recursive: true });
  folder = undefined;
});
