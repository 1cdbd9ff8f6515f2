/**
 * TensorBoard's event files: Event messages (protobuf) in TFRecord frames, both small enough to be written here.
 * Sources: tensorflow/core/lib/io/record_writer.h (frames), tensorflow/core/util/event.proto and
 * tensorflow/core/framework/summary.proto (messages), RFC 3720 appendix B.4 (CRC-32C).
 */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { makeFolder, openToWrite } from "../files/disk.ts";
import { explainWriteErrors } from "../files/files.ts";
import { EVENT_FILE } from "./folder.ts";
import type { LogEntry } from "./trainer-state.ts";

/** An event file that is being written. */
export interface EventLog extends AsyncDisposable {
  readonly path: string;
  /** Adds every number of a log entry under the tag that transformers gives it. */
  write(entry: LogEntry): Promise<void>;
}

/**
 * Starts a new event file. It tells TensorBoard to drop what earlier files of the folder hold from `firstStep` on, so that
 * the steps which a resumed run does again are there once.
 * @throws QloraError DISK_FULL, FILE_NOT_WRITABLE or FILE_WRITE_FAILED naming the path
 */
export async function openEventLog(folder: string, firstStep: number): Promise<EventLog> {
  const before = existsSync(folder) ? await readdir(folder) : [];
  const taken = before.map((name) => Number(EVENT_FILE.exec(name)?.[1] ?? 0));
  const seconds = Math.max(Math.floor(Date.now() / 1000), ...taken.map((time) => time + 1));
  const path = join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`);
  const file = await explainWriteErrors(path, async () => {
    await makeFolder(folder);
    return openToWrite(path, "wx");
  });
  const append = (...events: Uint8Array[]): Promise<void> =>
    explainWriteErrors(path, () => file.write(Buffer.concat(events.map(frame))));
  const now = (): number => Date.now() / 1000;
  try {
    await append(versionEvent(now(), firstStep), startEvent(now(), firstStep));
  } catch (error) {
    await file.close();
    throw error;
  }
  return {
    path,
    write: (entry) => append(...scalarsOf(entry).map(([tag, value]) => scalarEvent(now(), entry.step, tag, value))),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** `{ loss, eval_accuracy }` as `train/loss`, `eval/accuracy`. Source: transformers, `rewrite_logs`. */
function scalarsOf(entry: LogEntry): [tag: string, value: number][] {
  const values = Object.entries(entry).filter(([key]) => key !== "step");
  return values.map(([key, value]) => [
    key.startsWith("eval_") ? `eval/${key.slice("eval_".length)}` : `train/${key}`,
    value,
  ]);
}

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
// Summary { repeated Value value = 1; }  Value { string tag = 1; float simple_value = 2; }
// SessionLog { SessionStatus status = 1; }  SessionStatus START = 1

function scalarEvent(wallTime: number, step: number, tag: string, value: number): Uint8Array {
  const single = Buffer.alloc(4);
  single.writeFloatLE(value);
  const scalar = Buffer.concat([text(1, tag), key(2, FIXED32), single]);
  return event(wallTime, step, bytes(5, bytes(1, scalar)));
}

function versionEvent(wallTime: number, step: number): Uint8Array {
  return event(wallTime, step, text(3, "brain.Event:2"));
}

function startEvent(wallTime: number, step: number): Uint8Array {
  return event(wallTime, step, bytes(7, Buffer.concat([key(1, VARINT), varint(1)])));
}

function event(wallTime: number, step: number, what: Uint8Array): Uint8Array {
  const time = Buffer.alloc(8);
  time.writeDoubleLE(wallTime);
  return Buffer.concat([key(1, FIXED64), time, key(2, VARINT), varint(step), what]);
}

// Wire types of protobuf. Source: protobuf.dev/programming-guides/encoding.
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

const key = (field: number, wireType: number): Uint8Array => varint(field * 8 + wireType);

const bytes = (field: number, content: Uint8Array): Uint8Array =>
  Buffer.concat([key(field, LENGTH), varint(content.byteLength), content]);

const text = (field: number, content: string): Uint8Array => bytes(field, Buffer.from(content, "utf8"));

/** A whole number, seven bits a byte, the lowest first. */
function varint(value: number): Uint8Array {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...out, rest]);
    out.push((rest % 128) + 128);
  }
}

/** uint64 length, its masked CRC, the content, its masked CRC; all little-endian. */
function frame(content: Uint8Array): Uint8Array {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(content.byteLength));
  head.writeUInt32LE(maskedCrc(head.subarray(0, 8)), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(maskedCrc(content));
  return Buffer.concat([head, content, tail]);
}

/** The CRC turned right by 15 bits, plus a constant. Source: tensorflow/core/lib/hash/crc32c.h (`Mask`). */
function maskedCrc(content: Uint8Array): number {
  const crc = crc32c(content);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Castagnoli's polynomial, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * POLYNOMIAL);
  return crc;
});

/** CRC-32C of bytes. @example crc32c(Buffer.from("123456789")) // 0xe3069283 */
export function crc32c(content: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of content) crc = (crc >>> 8) ^ CRC_OF_BYTE[(crc ^ byte) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}
