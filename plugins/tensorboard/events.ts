/**
 * TensorBoard's event files: Event messages (protobuf) in TFRecord frames, both small enough to be written here.
 * Sources: tensorflow/core/lib/io/record_writer.h (frames), tensorflow/core/util/event.proto and
 * tensorflow/core/framework/summary.proto (messages), RFC 3720 appendix B.4 (CRC-32C).
 */

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
// Summary { repeated Value value = 1; }  Value { string tag = 1; float simple_value = 2; }
// SessionLog { SessionStatus status = 1; }  SessionStatus START = 1

/** One number under a tag. */
export function scalarEvent(wallTime: number, step: number, tag: string, value: number): Uint8Array {
  const single = new Uint8Array(4);
  new DataView(single.buffer).setFloat32(0, value, true);
  const scalar = joined(text(1, tag), key(2, FIXED32), single);
  return event(wallTime, step, bytes(5, bytes(1, scalar)));
}

/** The first event of a file. */
export const versionEvent = (wallTime: number, step: number): Uint8Array =>
  event(wallTime, step, text(3, "brain.Event:2"));

/** Tells TensorBoard to drop what earlier files of the folder hold from `step` on. */
export const startEvent = (wallTime: number, step: number): Uint8Array =>
  event(wallTime, step, bytes(7, joined(key(1, VARINT), varint(1))));

function event(wallTime: number, step: number, what: Uint8Array): Uint8Array {
  const time = new Uint8Array(8);
  new DataView(time.buffer).setFloat64(0, wallTime, true);
  return joined(key(1, FIXED64), time, key(2, VARINT), varint(step), what);
}

// Wire types of protobuf. Source: protobuf.dev/programming-guides/encoding.
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

const key = (field: number, wireType: number): Uint8Array => varint(field * 8 + wireType);

const bytes = (field: number, content: Uint8Array): Uint8Array =>
  joined(key(field, LENGTH), varint(content.byteLength), content);

const text = (field: number, content: string): Uint8Array => bytes(field, new TextEncoder().encode(content));

/** A whole number, seven bits a byte, the lowest first. */
function varint(value: number): Uint8Array {
  const out: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...out, rest]);
    out.push((rest % 128) + 128);
  }
}

/** Pieces one after another. */
export function joined(...pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** uint64 length, its masked CRC, the content, its masked CRC; all little-endian. */
export function frame(content: Uint8Array): Uint8Array {
  const head = new Uint8Array(12);
  const fields = new DataView(head.buffer);
  fields.setBigUint64(0, BigInt(content.byteLength), true);
  fields.setUint32(8, maskedCrc(head.subarray(0, 8)), true);
  const tail = new Uint8Array(4);
  new DataView(tail.buffer).setUint32(0, maskedCrc(content), true);
  return joined(head, content, tail);
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

/** CRC-32C of bytes. @example crc32c(new TextEncoder().encode("123456789")) // 0xe3069283 */
export function crc32c(content: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of content) crc = (crc >>> 8) ^ CRC_OF_BYTE[(crc ^ byte) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}
