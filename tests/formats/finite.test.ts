import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { openCheckpoint, readFloats } from "../../core/formats/checkpoint.ts";
import { finiteTensors, firstNonFinite } from "../../core/formats/finite.ts";
import { readQuantFrame } from "../../core/formats/nf4-checkpoint.ts";
import { openModel } from "../../index.ts";
import { gemma2 } from "../../plugins/index.ts";
import { fileHost, openFolder } from "../../runtime/files/folder.ts";
import { checkpointHead } from "../../runtime/session/checkpoint-head.ts";
import { tiers } from "../support/gpu.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { smallRun } from "../support/run.ts";
import { corruptCheckpoint, type LooseTensors } from "./malformed.ts";
import { rejection, temporaryFolder } from "./support.ts";

const folder = temporaryFolder();
let cases = 0;
const next = (): string => join(folder, `case${++cases}`);

describe("firstNonFinite", () => {
  const halves = (...bits: number[]): Uint8Array => new Uint8Array(Uint16Array.from(bits).buffer);
  test("bf16, f16 and f32: NaN and both infinities, wherever they stand", () => {
    for (const [dtype, bad, good] of [
      ["BF16", [0x7f80, 0xff80, 0x7fc0, 0xffff], [0x7f7f, 0xff7f, 0, 0x8000, 0x7c00]],
      ["F16", [0x7c00, 0xfc00, 0x7e01, 0xffff], [0x7bff, 0xfbff, 0, 0x8000]],
    ] as const) {
      for (const bits of bad) {
        for (let at = 0; at < 5; at++) {
          const values = [1, 2, 3, 4, 5];
          values[at] = bits;
          expect(firstNonFinite(halves(...values), dtype)).toBe(at);
        }
      }
      expect(firstNonFinite(halves(...good), dtype)).toBe(-1);
      expect(firstNonFinite(new Uint8Array([0, 0, ...halves(...good, bad[0])]).subarray(2), dtype)).toBe(good.length);
    }
    const f32 = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
    expect(firstNonFinite(f32(1, 3.4e38, -0), "F32")).toBe(-1);
    for (const bad of [NaN, Infinity, -Infinity]) expect(firstNonFinite(f32(1, 2, bad, NaN), "F32")).toBe(2);
    expect(firstNonFinite(new Uint8Array(8).fill(255), "U8")).toBe(-1);
    expect(firstNonFinite(new Uint8Array(0), "BF16")).toBe(-1);
  });
});

test("memory that is read into is only written: it may be the GPU's, where a read takes a thousand times as long", async () => {
  await using checkpoint = await openCheckpoint(openFolder(tinyCheckpoint));
  const into: Uint8Array[] = [];
  const source = finiteTensors(
    {
      ...checkpoint,
      readInto: (name, target, offset) => {
        into.push(target);
        return checkpoint.readInto(name, target, offset);
      },
    },
    false,
  );
  for (const [name, readsElsewhere] of [
    ["model.embed_tokens.weight", true],
    ["model.layers.1.mlp.up_proj.weight.nested_absmax", true],
    ["model.layers.1.mlp.up_proj.weight", false],
  ] as const) {
    into.length = 0;
    const { begin, end } = checkpoint.tensors.get(name)!;
    const target = new Uint8Array(end - begin);
    await source.readInto(name, target, 0);
    expect(into.some(({ buffer }) => buffer !== target.buffer)).toBe(readsElsewhere);
    expect(into.every(({ buffer }) => buffer !== target.buffer)).toBe(readsElsewhere);
    expect(Buffer.compare(target, await checkpoint.read(name))).toBe(0);
  }
});

describe("a checkpoint with a NaN", () => {
  const EMBEDDING = "model.embed_tokens.weight";
  const poison = (name: string, element: number) => (tensors: LooseTensors) => {
    const { bytes, dtype } = tensors.get(name)!;
    if (dtype === "F32") bytes.writeFloatLE(Number.NaN, 4 * element);
    else bytes.writeUInt16LE(0xff80, 2 * element);
  };
  for (const [name, element] of [
    [EMBEDDING, 4096 * 128 - 1],
    ["model.layers.2.post_feedforward_layernorm.weight", 7],
    ["model.layers.1.mlp.up_proj.weight.nested_absmax", 0],
  ] as const) {
    test(`in ${name} is told by name, with its element; a flag reads it as it is`, async () => {
      const dir = corruptCheckpoint(next(), { tensors: poison(name, element) });
      const says = {
        code: "TENSOR_NOT_FINITE",
        message: `${dir}/model.safetensors: tensor "${name}": element ${element} is NaN or infinite, expected a finite number`,
      };
      await using checkpoint = await openCheckpoint(openFolder(dir));
      const checked = finiteTensors(checkpoint, false);
      const streamed = async (): Promise<void> => {
        for await (const piece of checked.stream(name, 1000)) expect(piece.length).toBeGreaterThan(0);
      };
      const weight = name.replace(".nested_absmax", "");
      const read = weight === name ? readFloats(checked, name) : readQuantFrame(checked, weight);
      expect(await rejection(read)).toMatchObject(says);
      expect(await rejection(streamed())).toMatchObject(says);
      expect(await rejection(checked.readInto(name, new Uint8Array(4), 4 * Math.floor(element / 2)))).toMatchObject(
        name === EMBEDDING ? says : { code: "TENSOR_NOT_FINITE" },
      );
      const allowed = finiteTensors(checkpoint, true);
      await (weight === name ? readFloats(allowed, name) : readQuantFrame(allowed, weight));
    });
  }
});

describe("the head that a checkpoint has", () => {
  const head = (dtype: string, shape: number[], bytes: Buffer) => (tensors: LooseTensors) =>
    void tensors.set("score.weight", { dtype, shape, bytes });
  const f32 = Buffer.from(Float32Array.from({ length: 384 }, (_, i) => (i % 64) / 8 - 3).buffer);
  const wanted = Float32Array.from({ length: 384 }, (_, i) => (i % 64) / 8 - 3);

  async function told(tensors: (loose: LooseTensors) => void, numLabels = 3) {
    const dir = corruptCheckpoint(next(), { tensors });
    const source = gemma2({ checkpoint: dir }).create(fileHost);
    const messages: string[] = [];
    const values = await checkpointHead(await source.outline(numLabels), {
      source,
      baseModel: "base",
      onEvent: (event) => "message" in event && messages.push(`${event.type}: ${event.message}`),
    });
    return { value: values.get("base_model.model.score.weight"), messages };
  }

  test("is where training starts, and that is said", async () => {
    expect(await told(head("F32", [3, 128], f32))).toEqual({
      value: wanted,
      messages: ["info: base: training starts at its head, score.weight"],
    });
    const bf16 = Buffer.alloc(768);
    for (let i = 0; i < 384; i++) f32.copy(bf16, 2 * i, 4 * i + 2, 4 * i + 4); // these values are exact in bf16
    expect((await told(head("BF16", [3, 128], bf16))).value).toEqual(wanted);
  });

  test("of another number of labels, of another kind or damaged is not, and that is said", async () => {
    expect(await told(head("F32", [3, 128], f32), 2)).toEqual({
      value: undefined,
      messages: [
        "warning: base: its score.weight is [3,128], expected [2,128] (3 labels, this run has 2): the head is drawn anew",
      ],
    });
    expect((await told(head("F32", [1, 128], f32.subarray(0, 512)))).messages.join()).toContain(
      "(1 labels, this run has 3)",
    );
    expect((await told(head("I8", [3, 128], Buffer.alloc(384)))).messages.join()).toContain(
      "is I8, expected F32, BF16 or F16",
    );
    const quantized = (tensors: LooseTensors): void => {
      head("U8", [192, 1], Buffer.alloc(192))(tensors);
      tensors.set("score.weight.absmax", { dtype: "U8", shape: [6], bytes: Buffer.alloc(6) });
    };
    expect((await told(quantized)).messages.join()).toContain("its score.weight is quantized");
    const nan = Buffer.from(f32);
    nan.writeFloatLE(Number.NaN, 40);
    expect(await rejection(told(head("F32", [3, 128], nan)))).toMatchObject({
      message: expect.stringContaining('tensor "score.weight": element 10 is NaN'),
    });
    expect(await told(() => {})).toEqual({ value: undefined, messages: [] });
  });

  test.skipIf(tiers.length === 0)(
    "reaches the GPU as the file has it",
    async () => {
      const checkpoint = corruptCheckpoint(next(), { tensors: head("F32", [3, 128], f32) });
      const config = await smallRun(next(), { model: gemma2({ checkpoint }), device: { tier: "f32" } });
      using model = await openModel(config);
      const { parameters, gpu } = model.session;
      const trained = await gpu.readFloats(parameters.get("base_model.model.score.weight").value);
      expect(trained).toEqual(wanted);
    },
    120_000,
  );
});
