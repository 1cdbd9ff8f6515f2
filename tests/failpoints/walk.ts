/**
 * A command is run again and again, and each time the next of its system calls fails: with an error of the disk, or as if the
 * process had died there. What it leaves must be whole or told, and the same command again must come to the same end.
 */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { setFailpoint, type DiskCall } from "../../runtime/files/disk.ts";

/** What is walked. */
export interface Command {
  readonly name: string;
  /** Makes what the command needs, once. */
  readonly prepare: (folder: string) => Promise<void>;
  /** The command; throws as it fails. */
  readonly act: (folder: string) => Promise<void>;
  /** What a user does after a failure; default: the same command again. */
  readonly again?: (folder: string) => Promise<void>;
  /** What is there: its values are compared with those of a command that nothing befell. */
  readonly result: (folder: string) => Promise<unknown>;
  /** Looks at what a failure left, before anything else is done: what is not told must be whole. */
  readonly judge?: (folder: string) => Promise<void>;
}

/** A call that is reached. */
interface Point {
  readonly call: DiskCall;
  readonly path: string;
}

/** Every point of a walk, and what came of it. */
export interface Walked {
  readonly points: number;
  readonly byCall: Readonly<Partial<Record<DiskCall, number>>>;
  /** Failures that the command told, and that it did without. */
  readonly told: number;
  readonly passed: number;
}

/** What a dead process says: nothing of it is for a user. */
class Died extends Error {}

const ERRORS = ["EIO", "ENOSPC", "EMFILE"] as const;

function systemError(code: (typeof ERRORS)[number], { call, path }: Point): Error {
  return Object.assign(new Error(`${code}: injected, ${call} '${path}'`), { code, syscall: call, path });
}

/** EMFILE is the answer of what opens something; the others are given in turn. */
const errorAt = (n: number, point: Point): Error =>
  systemError(point.call === "open" && n % 2 === 0 ? "EMFILE" : ERRORS[n % 2]!, point);

/** Walks every point of a command. */
export async function walk(command: Command): Promise<Walked> {
  const memory = existsSync("/dev/shm") ? "/dev/shm" : tmpdir(); // nothing here outlasts a loss of power anyway
  const root = await mkdtemp(join(memory, "qlora-walk-"));
  try {
    return await walkIn(root, command);
  } finally {
    setFailpoint(undefined);
    await rm(root, { recursive: true, force: true });
  }
}

async function walkIn(root: string, command: Command): Promise<Walked> {
  const [template, folder] = [join(root, "template"), join(root, "here")];
  await rm(template, { recursive: true, force: true });
  await Bun.write(join(template, ".keep"), "");
  // Made where it is used: configs name their paths.
  await cp(template, folder, { recursive: true });
  await command.prepare(folder);
  await rm(template, { recursive: true });
  await cp(folder, template, { recursive: true });
  const fresh = async (): Promise<void> => {
    await rm(folder, { recursive: true, force: true });
    await cp(template, folder, { recursive: true });
  };

  const points: Point[] = [];
  setFailpoint((call, path) => void points.push({ call, path }));
  await command.act(folder);
  setFailpoint(undefined);
  const wanted = await command.result(folder);
  const byCall: Partial<Record<DiskCall, number>> = {};
  for (const { call } of points) byCall[call] = (byCall[call] ?? 0) + 1;

  let [told, passed] = [0, 0];
  for (let n = 1; n <= points.length; n++) {
    for (const kind of ["error", "death"] as const) {
      await fresh();
      const { at, error } = await fail(command, folder, n, kind);
      const where = `${command.name}: point ${n} of ${points.length}, ${kind} at ${at?.call} ${at?.path}`;
      if (error === undefined) passed++;
      else told++;
      if (kind === "error" && error !== undefined && !(error instanceof QloraError))
        throw new Error(`${where}: was told as`, { cause: error });
      await command.judge?.(folder).catch((cause: unknown) => {
        if (!(cause instanceof QloraError)) throw new Error(`${where}: left what is neither whole nor told`, { cause });
      });
      try {
        if (error !== undefined) await (command.again ?? command.act)(folder);
        expect(await command.result(folder)).toEqual(wanted as never);
        expect(await leftBehind(folder)).toEqual([]);
      } catch (cause) {
        throw new Error(`${where}: the same command again`, { cause });
      }
    }
  }
  return { points: points.length, byCall, told, passed };
}

/** Runs the command with its n-th call failing; a dead process makes no call any more. */
async function fail(
  { act }: Command,
  folder: string,
  n: number,
  kind: "error" | "death",
): Promise<{ readonly at: Point | undefined; readonly error: unknown }> {
  let count = 0;
  let at: Point | undefined;
  setFailpoint((call, path) => {
    if (++count < n || (kind === "error" && count > n)) return undefined;
    at ??= { call, path };
    return kind === "death" ? new Died("the process is dead") : errorAt(n, { call, path });
  });
  const error: unknown = await act(folder).then(
    () => undefined,
    (thrown: unknown) => thrown ?? new Error("nothing was thrown"),
  );
  setFailpoint(undefined);
  return { at, error };
}

/** Temporary files and folders below a folder. */
async function leftBehind(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true });
  return names.filter((name) => /\.(tmp|old)-\d+/.test(name));
}
