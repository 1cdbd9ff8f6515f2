import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import { openSafetensors, writeSafetensors } from "../../runtime/files/folder.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { joinHeader, rejection, sameBits, splitHeader, temporaryFolder } from "./support.ts";

const dir = temporaryFolder();
const tiny = join(tinyCheckpoint, "model.safetensors");

async function rewrite(from: string, to: string): Promise<void> {
  await using file = await openSafetensors(from);
  const tensors: [string, TensorToWrite][] = [...file.tensors].map(([name, { dtype, shape }]) => [
    name,
    { dtype, shape, data: () => file.read(name) },
  ]);
  await writeSafetensors(to, tensors.toReversed(), file.metadata);
}

describe("a rewritten file is byte-equal to what Python's safetensors wrote", () => {
  const files = [
    "parity-tiny/adapter/adapter_model.safetensors",
    "parity-tiny/gradients.safetensors",
    "train-adamw/adapter-start/adapter_model.safetensors",
    "nf4/golden.safetensors",
    "adamw8bit/trajectory.safetensors",
    "plugins/tiny-qwen2-nf4/model.safetensors",
  ];
  for (const name of files) {
    test(name, async () => {
      const copy = join(dir, "copy.safetensors");
      await rewrite(goldenPath(name), copy);
      expect(sameBits(readFileSync(copy), readFileSync(goldenPath(name)))).toBe(true);
    });
  }
  test("the tiny checkpoint, with three dtypes", async () => {
    await rewrite(tiny, join(dir, "tiny.safetensors"));
    expect(sameBits(readFileSync(join(dir, "tiny.safetensors")), readFileSync(tiny))).toBe(true);
  });
});

test("larger elements come first, names follow their UTF-8 bytes, the header is padded to 8 bytes", async () => {
  const path = join(dir, "order.safetensors");
  const data = new Uint8Array(8);
  const one = (dtype: TensorToWrite["dtype"], shape: number[], bytes: number): TensorToWrite => ({
    dtype,
    shape,
    data: data.subarray(0, bytes),
  });
  await writeSafetensors(path, [
    ["u8", one("U8", [3], 3)],
    ["10", one("F16", [1], 2)],
    ["9", one("BF16", [1], 2)],
    ["\u{1F600}", one("F32", [], 4)],
    ["\uFFFD", one("F32", [1, 1], 4)],
    ["2", one("F32", [0, 7], 0)],
    ["i64", one("I64", [1], 8)],
    ["f64", one("F64", [1], 8)],
  ]);
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  expect(length % 8).toBe(0);
  expect(
    bytes
      .subarray(8, 8 + length)
      .toString()
      .trimEnd(),
  ).toBe(
    '{"i64":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},' +
      '"f64":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},' +
      '"2":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]},' +
      '"\uFFFD":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]},' +
      '"\u{1F600}":{"dtype":"F32","shape":[],"data_offsets":[20,24]},' +
      '"9":{"dtype":"BF16","shape":[1],"data_offsets":[24,26]},' +
      '"10":{"dtype":"F16","shape":[1],"data_offsets":[26,28]},' +
      '"u8":{"dtype":"U8","shape":[3],"data_offsets":[28,31]}}',
  );
  await using file = await openSafetensors(path);
  expect([...file.tensors.keys()]).toContain("2");
  expect((await file.read("2")).byteLength).toBe(0);
});

test("an empty file of tensors has the bytes of the format's own example", async () => {
  await writeSafetensors(join(dir, "empty.safetensors"), [], { framework: "pt" });
  const bytes = readFileSync(join(dir, "empty.safetensors"));
  expect(Number(bytes.readBigUInt64LE(0))).toBe(40);
  expect(bytes.subarray(8).toString()).toBe('{"__metadata__":{"framework":"pt"}}     ');
  await writeSafetensors(join(dir, "empty.safetensors"), []);
  expect(readFileSync(join(dir, "empty.safetensors")).toString("latin1")).toBe("\b\0\0\0\0\0\0\0{}      ");
});

test("the writer refuses data that does not fit, and a name given twice", async () => {
  const path = join(dir, "refused.safetensors");
  const bad: [string, TensorToWrite][] = [["a", { dtype: "F32", shape: [2], data: new Uint8Array(7) }]];
  expect(String(await rejection(writeSafetensors(path, bad)))).toContain("a: 7 bytes for F32 [2], expected 8");
  const twice: [string, TensorToWrite][] = [
    ["a", { dtype: "U8", shape: [1], data: new Uint8Array(1) }],
    ["a", { dtype: "F32", shape: [1], data: new Float32Array(1) }],
  ];
  expect(String(await rejection(writeSafetensors(path, twice)))).toContain("a: not a free tensor name");
  expect(await Bun.file(path).exists()).toBe(false);
});

test("data may come in pieces; pieces that are too few are refused", async () => {
  const path = join(dir, "pieces.safetensors");
  const write = (count: number): Promise<void> => {
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < count; i++) yield Uint8Array.of(i, 10 * i);
    }
    return writeSafetensors(path, [["a", { dtype: "U8", shape: [6], data: async () => pieces() }]]);
  };
  await write(3);
  await using file = await openSafetensors(path);
  expect([...(await file.read("a"))]).toEqual([0, 0, 1, 10, 2, 20]);
  expect(String(await rejection(write(2)))).toContain("a: 4 bytes for U8 [6], expected 6");
});

test("read, readInto and stream give the same bytes", async () => {
  const whole = readFileSync(tiny);
  await using file = await openSafetensors(tiny);
  const name = "model.layers.2.mlp.up_proj.weight";
  const { begin, end } = file.tensors.get(name)!;
  const expected = whole.subarray(begin, end);
  expect(sameBits(await file.read(name), expected)).toBe(true);

  const part = new Uint8Array(1000);
  await file.readInto(name, part, 777);
  expect(sameBits(part, expected.subarray(777, 1777))).toBe(true);
  expect(await rejection(file.readInto(name, part, end - begin - 999))).toBeInstanceOf(RangeError);

  const pieces: Uint8Array[] = [];
  for await (const piece of file.stream(name, 5000)) pieces.push(piece);
  expect(pieces.map((piece) => piece.byteLength)).toEqual([5000, 5000, 5000, 5000, 5000, 5000, 2768]);
  expect(sameBits(Buffer.concat(pieces), expected)).toBe(true);
});

describe("a damaged file is a ModelError that names file and tensor", () => {
  const name = "model.layers.1.self_attn.q_proj.weight";
  const header = () => splitHeader(readFileSync(tiny));
  const entry = (change: (entry: { dtype: string; shape: number[]; data_offsets: number[] }) => void): Buffer => {
    const { json, data } = header();
    change(json[name]!);
    return joinHeader(json, data);
  };
  const raw = (text: string, data = new Uint8Array(0)) => {
    const bytes = Buffer.alloc(8 + Buffer.byteLength(text));
    bytes.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
    bytes.write(text, 8);
    return Buffer.concat([bytes, data]);
  };

  const cases: [what: string, bytes: () => Uint8Array, says: string, namesTensor: boolean][] = [
    ["an empty file", () => new Uint8Array(0), "has 0 bytes", false],
    ["a file of seven bytes", () => new Uint8Array(7), "has 7 bytes", false],
    ["header length beyond the file", () => raw('{"a":1}').subarray(0, 12), "but the file has only 12", false],
    ["header length beyond the format's limit", () => Buffer.from("ffffffffffffff7f", "hex"), "no safetensors", false],
    ["header that is not JSON", () => raw("{not json"), "not valid JSON", false],
    [
      "header that is not UTF-8",
      () => Buffer.concat([raw('{"a":1}').subarray(0, 10), Buffer.alloc(5, 0xff)]),
      "JSON",
      false,
    ],
    ["header that is a list", () => raw("[]"), "not a JSON object", false],
    ["metadata that is not of strings", () => raw('{"__metadata__":{"a":1}}'), "__metadata__.a", false],
    ["entry that is a number", () => raw(`{"${name}":1}`), "is not an object", true],
    ["unknown dtype", () => entry((e) => (e.dtype = "F13")), 'dtype "F13" is unknown', true],
    ["negative size", () => entry((e) => (e.shape = [-1, 4])), "not a list of sizes", true],
    ["fractional size", () => entry((e) => (e.shape = [0.5])), "not a list of sizes", true],
    ["shape that does not fit the offsets", () => entry((e) => (e.shape = [64, 129])), "takes 8256 bytes", true],
    ["dtype that does not fit the offsets", () => entry((e) => (e.dtype = "F32")), "takes 32768 bytes", true],
    ["reversed offsets", () => entry((e) => e.data_offsets.reverse()), "is not [begin, end]", true],
    ["one offset only", () => entry((e) => e.data_offsets.pop()), "is not [begin, end]", true],
    ["overlapping offsets", () => entry((e) => (e.data_offsets = e.data_offsets.map((n) => n - 64))), "overlap", true],
    ["offsets beyond the file", () => entry((e) => (e.data_offsets = e.data_offsets.map((n) => n + 1e7))), "gap", true],
    [
      "a tensor that is not listed",
      () => {
        const { json, data } = header();
        delete json[name];
        return joinHeader(json, data);
      },
      "leave a gap",
      false,
    ],
    [
      "two names for the same bytes",
      () => {
        const { json, data } = header();
        json["copy"] = json[name]!;
        return joinHeader(json, data);
      },
      "overlap",
      false,
    ],
    ["a truncated file", () => readFileSync(tiny).subarray(0, -1000), "end beyond the file", false],
    [
      "bytes that belong to no tensor",
      () => Buffer.concat([readFileSync(tiny), Buffer.alloc(3)]),
      "3 bytes after",
      false,
    ],
  ];
  for (const [what, bytes, says, namesTensor] of cases) {
    test(what, async () => {
      const path = join(dir, "damaged.safetensors");
      writeFileSync(path, bytes());
      const error = await rejection(openSafetensors(path));
      expect(error).toBeInstanceOf(ModelError);
      expect((error as ModelError).code).toBe("SAFETENSORS_INVALID");
      expect((error as ModelError).message).toContain(path);
      expect((error as ModelError).message).toContain(says);
      if (namesTensor) expect((error as ModelError).message).toContain(name);
    });
  }

  test("a file that shrinks after it was opened", async () => {
    const path = join(dir, "shrinks.safetensors");
    writeFileSync(path, readFileSync(tiny));
    await using file = await openSafetensors(path);
    writeFileSync(path, readFileSync(tiny).subarray(0, 30_000));
    const error = await rejection(file.read("model.layers.3.self_attn.v_proj.weight"));
    expect(error).toBeInstanceOf(ModelError);
    expect((error as ModelError).message).toContain('"model.layers.3.self_attn.v_proj.weight": ends at byte');
  });

  test("a missing file, a folder, and a tensor that is not there", async () => {
    expect(await rejection(openSafetensors(join(dir, "nothing")))).toMatchObject({ code: "SAFETENSORS_MISSING" });
    expect(await rejection(openSafetensors(dir))).toBeInstanceOf(ModelError);
    await using file = await openSafetensors(tiny);
    const error = await rejection(file.read("score.weight"));
    expect(error).toMatchObject({ code: "TENSOR_MISSING" });
    expect((error as Error).message).toContain('"score.weight"');
  });
});
