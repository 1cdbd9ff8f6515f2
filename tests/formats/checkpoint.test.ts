import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ModelError } from "../../core/errors.ts";
import { expectFloats, openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { bf16ToF32, f32ToF16 } from "../../core/formats/half.ts";
import { isQuantized, read4bit, readQuantState } from "../../core/formats/nf4-checkpoint.ts";
import { dequantize4bit, quantize4bit, restoreAbsmax } from "../../core/formats/nf4.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { changeQuantState, corruptCheckpoint, looseTensors, shardCheckpoint, type LooseTensors } from "./malformed.ts";
import { rejection, sameBits, temporaryFolder } from "./support.ts";

const root = temporaryFolder();
const q = "model.layers.0.self_attn.q_proj.weight";
const down = "model.layers.3.mlp.down_proj.weight";
const norm = "model.layers.2.input_layernorm.weight";
let next = 0;
const folder = () => join(root, `case${next++}`);

describe("openCheckpoint", () => {
  test("a single file: every tensor, config.json as it stands", async () => {
    await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
    expect(checkpoint.config["model_type"]).toBe("gemma2");
    expect(checkpoint.tensors.size).toBe(186);
    expect(checkpoint.tensors.get("model.embed_tokens.weight")).toMatchObject({ dtype: "BF16", shape: [4096, 128] });
    expect(sameBits(await checkpoint.read(q), looseTensors().get(q)!.bytes)).toBe(true);
    expect(await rejection(checkpoint.read("lm_head.weight"))).toMatchObject({ code: "TENSOR_MISSING" });
  });

  test("shards: the same tensors, found across them", async () => {
    await using checkpoint = await openCheckpoint(openFolder(shardCheckpoint(folder(), 3)));
    const tensors = looseTensors();
    expect([...checkpoint.tensors.keys()].toSorted()).toEqual([...tensors.keys()].toSorted());
    for (const [name, { bytes }] of tensors) expect(sameBits(await checkpoint.read(name), bytes)).toBe(true);
    expect(new Set([...checkpoint.tensors.keys()].map((name) => checkpoint.pathOf(name))).size).toBe(3);
    const pieces: Uint8Array[] = [];
    for await (const piece of checkpoint.stream(q, 3000)) pieces.push(piece);
    expect(sameBits(Buffer.concat(pieces), tensors.get(q)!.bytes)).toBe(true);
  });

  const index = (dir: string, change: (map: Record<string, unknown>) => void) => {
    const path = join(dir, "model.safetensors.index.json");
    const json = JSON.parse(readFileSync(path, "utf8")) as { weight_map: Record<string, unknown> };
    change(json.weight_map);
    writeFileSync(path, JSON.stringify(json));
  };
  const broken: [what: string, breakIt: (dir: string) => void, ...says: string[]][] = [
    [
      "a missing shard",
      (dir) => rmSync(join(dir, "model-00002-of-00002.safetensors")),
      "model-00002-of-00002.safetensors",
      "tensor",
    ],
    [
      "a tensor that is not in its shard",
      (dir) => index(dir, (map) => (map["ghost.weight"] = map[q])),
      "ghost.weight",
      "not in this shard",
    ],
    ["a shard outside the folder", (dir) => index(dir, (map) => (map[q] = "../model.safetensors")), q, "no file name"],
    ["a shard that is a number", (dir) => index(dir, (map) => (map[q] = 2)), q, "no file name"],
    [
      "a damaged shard",
      (dir) => writeFileSync(join(dir, "model-00001-of-00002.safetensors"), "x"),
      "model-00001-of-00002",
      "1 bytes",
    ],
    [
      "an index that is not JSON",
      (dir) => writeFileSync(join(dir, "model.safetensors.index.json"), "{"),
      "index.json",
      "JSON",
    ],
    [
      "an index without weight_map",
      (dir) => writeFileSync(join(dir, "model.safetensors.index.json"), "{}"),
      "weight_map",
    ],
    ["no config.json", (dir) => rmSync(join(dir, "config.json")), "config.json", "cannot be read"],
    [
      "a config.json that is a list",
      (dir) => writeFileSync(join(dir, "config.json"), "[]"),
      "config.json",
      "not a JSON object",
    ],
  ];
  for (const [what, breakIt, ...says] of broken) {
    test(`${what} is a ModelError`, async () => {
      const dir = shardCheckpoint(folder(), 2);
      breakIt(dir);
      const error = await rejection(openCheckpoint(openFolder(dir)));
      expect(error).toBeInstanceOf(ModelError);
      for (const part of [dir, ...says]) expect((error as Error).message).toContain(part);
    });
  }

  test("a truncated single file is a ModelError", async () => {
    const error = await rejection(
      openCheckpoint(openFolder(corruptCheckpoint(folder(), { bytes: (b) => b.subarray(0, -5) }))),
    );
    expect(error).toBeInstanceOf(ModelError);
    expect((error as Error).message).toMatch(/model\.safetensors: tensor ".+end beyond the file/);
  });

  test("pickled weights get the hint to save safetensors", async () => {
    const dir = folder();
    mkdirSync(dir);
    writeFileSync(join(dir, "config.json"), "{}");
    writeFileSync(join(dir, "pytorch_model.bin"), "");
    const error = await rejection(openCheckpoint(openFolder(dir)));
    expect((error as ModelError).message).toContain("neither model.safetensors nor");
    expect((error as ModelError).hint).toContain("pytorch_model.bin");
  });
});

describe("readFloats", () => {
  test("bf16, f16 and f32 are widened to f32", async () => {
    const bits = looseTensors().get(norm)!.bytes;
    const expected = bf16ToF32(toU16(bits));
    for (const dtype of ["BF16", "F16", "F32"] as const) {
      const dir = corruptCheckpoint(folder(), {
        tensors(tensors) {
          const tensor = tensors.get(norm)!;
          tensor.dtype = dtype;
          if (dtype === "F16") tensor.bytes = Buffer.from(f32ToF16(expected).buffer);
          if (dtype === "F32") tensor.bytes = Buffer.from(expected.buffer);
        },
      });
      await using checkpoint = await openCheckpoint(openFolder(dir));
      const values = await readFloats(checkpoint, norm, [128]);
      // These norms have bfloat16's eight bits and lie in half precision's range: nothing is lost either way.
      expect(values).toEqual(expected);
    }
  });

  test("another dtype or shape is a ModelError that names the tensor", async () => {
    await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
    expect(() => expectFloats(checkpoint, norm, [64])).toThrow(`tensor "${norm}" is [128], expected [64]`);
    expect(() => expectFloats(checkpoint, norm, [1, 128])).toThrow("expected [1,128]");
    expect(() => expectFloats(checkpoint, q)).toThrow(`tensor "${q}" is U8`);
    expect(await rejection(readFloats(checkpoint, "score.weight"))).toMatchObject({ code: "TENSOR_MISSING" });
  });
});

describe("read4bit", () => {
  test("every linear of the tiny checkpoint, checked against its stored quant_state", async () => {
    await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
    const names = [...checkpoint.tensors.keys()].filter((name) => name.endsWith("_proj.weight"));
    expect(names.length).toBe(28);
    for (const name of names) {
      expect(isQuantized(checkpoint, name)).toBe(true);
      const weight = await read4bit(checkpoint, name);
      const state = JSON.parse(
        (await checkpoint.read(`${name}.quant_state.bitsandbytes__nf4`)).reduce(
          (s, c) => s + String.fromCharCode(c),
          "",
        ),
      );
      expect([...weight.shape]).toEqual(state.shape);
      expect(weight.dtype).toBe("bfloat16");
      expect(weight.nestedOffset).toBe(state.nested_offset);
      expect(weight.absmax).toBeInstanceOf(Uint8Array);
      expect(weight.codes.length * 2).toBe(state.shape[0] * state.shape[1]);
      // What was quantized once quantizes to the same codes again.
      const again = quantize4bit(dequantize4bit(weight, "float32"));
      const restored = restoreAbsmax(weight);
      const full = again.absmax.findIndex((value, i) => value === restored[i]);
      expect(full).toBeGreaterThanOrEqual(0);
      expect(
        sameBits(again.codes.subarray(full * 32, full * 32 + 32), weight.codes.subarray(full * 32, full * 32 + 32)),
      ).toBe(true);
    }
    expect(isQuantized(checkpoint, norm)).toBe(false);
    expect(await readQuantState(checkpoint, down, [128, 512])).toMatchObject({ shape: [128, 512], dtype: "bfloat16" });
  });

  /** Turns a weight's absmax into plain f32, as without double quantization. */
  async function plain(tensors: LooseTensors): Promise<Float32Array<ArrayBuffer>> {
    await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
    const absmax = restoreAbsmax(await read4bit(checkpoint, q));
    tensors.set(`${q}.absmax`, { dtype: "F32", shape: [256], bytes: Buffer.from(absmax.buffer) });
    tensors.delete(`${q}.nested_absmax`);
    tensors.delete(`${q}.nested_quant_map`);
    changeQuantState(tensors, q, { nested_blocksize: undefined, nested_dtype: undefined, nested_offset: undefined });
    return absmax;
  }

  test("plain f32 absmax dequantizes to the same weight", async () => {
    const tensors = looseTensors();
    const absmax = await plain(tensors);
    const dir = corruptCheckpoint(folder(), {
      tensors(target) {
        target.clear();
        for (const [name, tensor] of tensors) target.set(name, tensor);
      },
    });
    await using checkpoint = await openCheckpoint(openFolder(dir));
    await using original = await openCheckpoint(openFolder(tinyCheckpoint));
    const weight = await read4bit(checkpoint, q);
    expect(weight.absmax).toEqual(absmax);
    expect(weight.nestedAbsmax).toBeUndefined();
    expect(sameBits(dequantize4bit(weight), dequantize4bit(await read4bit(original, q)))).toBe(true);
  });

  for (const [dtype, size] of [
    ["BF16", 2],
    ["F32", 4],
    ["I8", 1],
  ] as const) {
    test(`codes stored as ${dtype} are the same bytes`, async () => {
      const dir = corruptCheckpoint(folder(), {
        tensors: (tensors) => Object.assign(tensors.get(q)!, { dtype, shape: [8192 / size, 1] }),
      });
      await using checkpoint = await openCheckpoint(openFolder(dir));
      expect(sameBits((await read4bit(checkpoint, q)).codes, looseTensors().get(q)!.bytes)).toBe(true);
    });
  }

  const u8 = (...bytes: number[]) => ({ dtype: "U8", shape: [bytes.length], bytes: Buffer.from(bytes) });
  const state = `${q}.quant_state.bitsandbytes__nf4`;
  const nan = Buffer.from(Float32Array.of(Number.NaN).buffer);
  const broken: [what: string, breakIt: (tensors: LooseTensors) => void, tensor: string, says: string][] = [
    ["a missing weight", (t) => t.delete(q), q, "there is no tensor"],
    ...["absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4"].map(
      (part): [string, (t: LooseTensors) => void, string, string] => [
        `a missing ${part}`,
        (t) => t.delete(`${q}.${part}`),
        `${q}.${part}`,
        "is missing",
      ],
    ),
    ["an extra sub-tensor", (t) => t.set(`${q}.absmax2`, u8(1)), `${q}.absmax2`, "does not belong"],
    [
      "nested parts without a nested state",
      (t) => changeQuantState(t, q, { nested_blocksize: undefined, nested_dtype: undefined, nested_offset: undefined }),
      `${q}.nested_absmax`,
      "does not belong",
    ],
    [
      "a weight that is not quantized",
      (t) =>
        ["absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4"].forEach((part) =>
          t.delete(`${q}.${part}`),
        ),
      q,
      "is not quantized",
    ],
    [
      "NF4 under FP4's name",
      (t) => {
        t.set(`${q}.quant_state.bitsandbytes__fp4`, t.get(state)!);
        t.delete(state);
      },
      `${q}.quant_state.bitsandbytes__fp4`,
      'quant_type is "nf4", expected "fp4"',
    ],
    ["two quant_states", (t) => t.set(`${q}.quant_state.other`, u8(1)), q, "quant_state.other"],
    [
      "the old unpacked style",
      (t) => {
        t.delete(state);
        t.set(`${q}.quant_type`, u8(1));
        t.set(`${q}.blocksize`, u8(64));
      },
      q,
      "old style (quant_type, blocksize)",
    ],
    [
      "LLM.int8 weights",
      (t) => {
        for (const k of t.keys()) if (k.startsWith(`${q}.`)) t.delete(k);
        t.set(`${q}.SCB`, u8(1));
      },
      q,
      "8 bits",
    ],
    ["a quant_state that is not JSON", (t) => (t.get(state)!.bytes[0] = 0x5b), state, "not valid JSON"],
    ["a quant_state that is not UTF-8", (t) => (t.get(state)!.bytes[3] = 0xff), state, "not valid JSON"],
    ["a quant_state that is a list", (t) => t.set(state, u8(...Buffer.from("[]"))), state, "not a JSON object"],
    ["a quant_state that is null", (t) => t.set(state, u8(...Buffer.from("null"))), state, "not a JSON object"],
    ["quant_type fp4", (t) => changeQuantState(t, q, { quant_type: "fp4" }), state, 'quant_type is "fp4"'],
    [
      "block size 32",
      (t) => changeQuantState(t, q, { blocksize: 32 }),
      state,
      "blocksize is 32, expected one of 64, 128,",
    ],
    [
      "another block size",
      (t) => changeQuantState(t, q, { blocksize: 128 }),
      `${q}.absmax`,
      "U8 [256], expected U8 [128]",
    ],
    [
      "nested block size 128",
      (t) => changeQuantState(t, q, { nested_blocksize: 128 }),
      state,
      "nested_blocksize is 128",
    ],
    ["nested dtype bfloat16", (t) => changeQuantState(t, q, { nested_dtype: "bfloat16" }), state, "nested_dtype"],
    [
      "no nested_offset",
      (t) => changeQuantState(t, q, { nested_offset: undefined }),
      state,
      "nested_offset is undefined",
    ],
    ["dtype int8", (t) => changeQuantState(t, q, { dtype: "int8" }), state, 'dtype is "int8"'],
    ["a shape of three", (t) => changeQuantState(t, q, { shape: [128, 128, 1] }), state, "shape is [128,128,1]"],
    ["a negative shape", (t) => changeQuantState(t, q, { shape: [-128, -128] }), state, "shape is [-128,-128]"],
    [
      "a shape that the codes do not fill",
      (t) => changeQuantState(t, q, { shape: [128, 256] }),
      q,
      "holds 8192 bytes, but [128,256] packs into 16384",
    ],
    ["too few absmax", (t) => t.set(`${q}.absmax`, u8(1, 2, 3)), `${q}.absmax`, "is U8 [3], expected U8 [256]"],
    [
      "absmax of another dtype",
      (t) => (t.get(`${q}.absmax`)!.dtype = "I8"),
      `${q}.absmax`,
      "is I8 [256], expected U8 [256]",
    ],
    [
      "too many nested absmax",
      (t) => t.set(`${q}.nested_absmax`, { dtype: "F32", shape: [2], bytes: Buffer.alloc(8) }),
      `${q}.nested_absmax`,
      "expected F32 [1]",
    ],
    [
      "a short nested map",
      (t) => t.set(`${q}.nested_quant_map`, { dtype: "F32", shape: [2], bytes: Buffer.alloc(8) }),
      `${q}.nested_quant_map`,
      "expected F32 [256]",
    ],
    [
      "a NaN in nested_absmax",
      (t) => (t.get(`${q}.nested_absmax`)!.bytes = nan),
      `${q}.nested_absmax`,
      "element 0 is NaN",
    ],
    [
      "another code book",
      (t) => t.get(`${q}.quant_map`)!.bytes.writeFloatLE(0.5, 0),
      `${q}.quant_map`,
      "not the code book",
    ],
  ];
  for (const [what, breakIt, tensor, says] of broken) {
    test(`${what} is a ModelError that names the tensor`, async () => {
      const dir = corruptCheckpoint(folder(), { tensors: breakIt });
      await using checkpoint = await openCheckpoint(openFolder(dir));
      const error = await rejection(read4bit(checkpoint, q));
      expect(error).toBeInstanceOf(ModelError);
      expect((error as ModelError).message).toContain(`tensor "${tensor}"`);
      expect((error as ModelError).message).toContain(says);
      expect((error as ModelError).hint).toBeString();
      // Its neighbors are not touched by it.
      expect((await read4bit(checkpoint, down)).shape).toEqual([128, 512]);
    });
  }

  test("another shape than the model expects", async () => {
    await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
    const error = await rejection(read4bit(checkpoint, q, [256, 128]));
    expect((error as Error).message).toContain(`tensor "${q}" is [128,128], expected [256,128]`);
  });
});

function toU16(bytes: Buffer): Uint16Array {
  return new Uint16Array(new Uint8Array(bytes).buffer);
}
