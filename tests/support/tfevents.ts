/** Reads TensorBoard event files by the formats' descriptions; shares nothing with the writer. */

/** A point of a scalar. */
export interface EventPoint {
  readonly wallTime: number;
  readonly step: number;
  readonly tag: string;
  readonly value: number;
}

export interface EventFile {
  readonly version: string | undefined;
  /** Steps of the SessionLog START messages. */
  readonly starts: readonly number[];
  readonly points: readonly EventPoint[];
}

/** CRC-32C bit by bit, as a polynomial division. */
export function crcByBits(content: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of content) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc % 2n === 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffffffffn);
}

/** Undoes the mask of a stored CRC: minus the constant, then 15 bits to the left. */
function unmask(masked: number): number {
  const turned = BigInt.asUintN(32, BigInt(masked) - 0xa282ead8n);
  return Number(BigInt.asUintN(32, (turned << 15n) | (turned >> 17n)));
}

/** The contents of a file's frames. @throws where a length or a checksum is wrong */
function framesOf(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const frames: Uint8Array[] = [];
  for (let at = 0; at < file.byteLength;) {
    const length = Number(view.getBigUint64(at, true));
    if (unmask(view.getUint32(at + 8, true)) !== crcByBits(file.subarray(at, at + 8))) throw new Error("length's CRC");
    const content = file.subarray(at + 12, at + 12 + length);
    if (unmask(view.getUint32(at + 12 + length, true)) !== crcByBits(content)) throw new Error("content's CRC");
    frames.push(content);
    at += 16 + length;
  }
  return frames;
}

/** Fields of a protobuf message, by number, each a number or bytes. */
function fieldsOf(message: Uint8Array): Map<number, (number | Uint8Array)[]> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const fields = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]!;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  const read = (wireType: number): number | Uint8Array => {
    const from = at;
    switch (wireType) {
      case 0:
        return varint();
      case 1:
        at += 8;
        return view.getFloat64(from, true);
      case 2: {
        const length = varint();
        at += length;
        return message.subarray(at - length, at);
      }
      case 5:
        at += 4;
        return view.getFloat32(from, true);
      default:
        throw new Error(`wire type ${wireType}`);
    }
  };
  while (at < message.byteLength) {
    const key = varint();
    const list = fields.get(key >> 3) ?? [];
    list.push(read(key & 7));
    fields.set(key >> 3, list);
  }
  return fields;
}

/** Everything an event file says. */
export function readEventFile(file: Uint8Array): EventFile {
  let version: string | undefined;
  const starts: number[] = [];
  const points: EventPoint[] = [];
  for (const frame of framesOf(file)) {
    const event = fieldsOf(frame);
    const [wallTime, step] = [event.get(1)![0] as number, (event.get(2)?.[0] ?? 0) as number];
    for (const text of event.get(3) ?? []) version = new TextDecoder().decode(text as Uint8Array);
    for (const log of event.get(7) ?? []) if (fieldsOf(log as Uint8Array).get(1)![0] === 1) starts.push(step);
    for (const summary of event.get(5) ?? []) {
      for (const scalar of fieldsOf(summary as Uint8Array).get(1)!) {
        const fields = fieldsOf(scalar as Uint8Array);
        const tag = new TextDecoder().decode(fields.get(1)![0] as Uint8Array);
        points.push({ wallTime, step, tag, value: fields.get(2)![0] as number });
      }
    }
  }
  return { version, starts, points };
}

/** What TensorBoard shows of a folder's files, in the order of their names: a START drops all points from its step on. */
export function shownPoints(files: readonly EventFile[]): EventPoint[] {
  return files.reduce<EventPoint[]>(
    (shown, { starts, points }) => [...shown.filter(({ step }) => starts.every((start) => step < start)), ...points],
    [],
  );
}
