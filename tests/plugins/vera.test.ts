/** VeRA against its formula in f64, torch's draws, and the files that PEFT 0.21 writes. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { FrozenTensors } from "../../core/compute/frozen.ts";
import { metaGpu, NVIDIA } from "../../core/device/meta.ts";
import { type Adapter, defineAdapter, defineOptions, type FrozenSpec } from "../../core/index.ts";
import { lora, vera } from "../../plugins/index.ts";
import { veraForward } from "../../plugins/vera/forward.ts";
import { torchUniform } from "../../plugins/vera/torch-random.ts";
import { openFolder, openSafetensors, writeFiles, writeSafetensors } from "../../runtime/files/folder.ts";
import { adapterValues, withFrozenValues } from "../../runtime/session/adapter-values.ts";
import { openSessionOn } from "../../runtime/session/session.ts";
import { checkGradient } from "../../testing/gradient.ts";
import { toyModel } from "../../testing/toy-model.ts";
import { rejection, temporaryFolder } from "../formats/support.ts";
import { gpuOf, tiers } from "../support/gpu.ts";

const folder = temporaryFolder();

test("draws are those of torch.manual_seed(0); torch.rand(10)", () => {
  const values = torchUniform(0)(10, 0, 1);
  // As every torch prints them.
  const printed = [0.4963, 0.7682, 0.0885, 0.132, 0.3074, 0.6341, 0.4901, 0.8964, 0.4556, 0.6323];
  expect([...values].map((value) => Number(value.toFixed(4)))).toEqual(printed);
});

/** y = x + b * (B (d * (A x))): x [N,in], A [in,R] as it lies on the GPU, B [out,R]; the base is the identity. */
function reference(a: ArrayLike<number>, b: ArrayLike<number>, sizes: { size: number; rank: number }) {
  const { size, rank } = sizes;
  return (x: Float64Array, d: Float64Array, scale: Float64Array): Float64Array =>
    x.map((own, at) => {
      const [row, out] = [Math.floor(at / size), at % size];
      let sum = 0;
      for (let r = 0; r < rank; r++) {
        let low = 0;
        for (let k = 0; k < size; k++) low += x[row * size + k]! * a[k * rank + r]!;
        sum += b[out * rank + r]! * d[r]! * low;
      }
      return own + scale[out]! * sum;
    });
}

describe.each(tiers)("tier %s", (tier) => {
  test.each([
    [1, 4, 3],
    [17, 20, 5],
    [5, 64, 16],
  ])("forward and gradients of %i rows of %i, rank %i, against the formula in f64", async (rows, size, rank) => {
    const gpu = await gpuOf(tier);
    const uniform = torchUniform(7);
    const [a, b] = [uniform(size * rank, -0.5, 0.5), uniform(size * rank, -0.5, 0.5)];
    const upload = (data: Float32Array, label: string) => gpu.upload(data, [size, rank], "f32", label);
    const [onA, onB] = [upload(a, "A"), upload(b, "B")];
    const keys = gpu.upload(new Uint32Array(rows), [rows], "u32", "keys");
    await checkGradient(gpu, {
      inputs: [{ name: "x", shape: [rows, size], dtype: "half" }],
      parameters: [
        { name: "d", shape: [rank] },
        { name: "b", shape: [size] },
      ],
      run: (tape, [x], set) => {
        const branch = { a: onA, b: onB, lambdaD: set.get("d"), lambdaB: set.get("b"), dropout: 0, site: 0 };
        const batch = { rowKeys: keys } as Parameters<ReturnType<typeof veraForward>>[3];
        // The base is a copy of x: `veraForward` frees what it gets of it.
        const base = (input: typeof onA) => {
          const copy = tape.run(
            {
              name: "identity",
              forward: (t, [from]) => {
                const to = t.like(from!);
                t.gpu.copy(from!, to);
                return { outputs: [to] };
              },
              backward: (_, { dOutputs, needs }) => [needs[0] === true ? dOutputs[0] : undefined],
            },
            [input],
            null,
          );
          return copy[0]!;
        };
        return veraForward(branch)(tape, x!, base, batch, { training: true, seed: 1 });
      },
      reference: reference(a, b, { size, rank }),
    });
    for (const tensor of [onA, onB, keys]) gpu.free(tensor);
  });
});

/** An adapter of the toy model's linears. */
async function made(options: Parameters<typeof vera>[0]): Promise<Adapter> {
  const { linears, head } = await toyModel().outline(3);
  return vera(options).create({ linears, head, baseModel: "org/base", seed: 9 });
}

const valuesOf = (adapter: Adapter): Map<string, Float32Array<ArrayBuffer>> =>
  new Map([
    ...adapter.parameters.map((spec) => [spec.name, spec.initial().map((x, i) => x + i / 64)] as const),
    ...(adapter.frozen ?? []).map((spec) => [spec.name, spec.initial()] as const),
    ["base_model.model.score.weight", new Float32Array(3 * 64).fill(0.25)] as const,
  ]);

describe("PEFT's files", () => {
  test("adapter_config.json is what VeraConfig of 0.21 saves, byte for byte", async () => {
    const adapter = await made({ rank: 4, projectionPrngKey: 5, layersToTransform: [1] });
    const directory = join(folder, "config");
    await writeFiles(directory, await adapter.save(valuesOf(adapter)));
    const text = await Bun.file(join(directory, "adapter_config.json")).text();
    expect(text).toBe(`{
  "auto_mapping": null,
  "base_model_name_or_path": "org/base",
  "bias": "none",
  "d_initial": 0.1,
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_weights": true,
  "layers_pattern": null,
  "layers_to_transform": [
    1
  ],
  "modules_to_save": [
    "classifier",
    "score"
  ],
  "peft_type": "VERA",
  "peft_version": "0.21.0",
  "projection_prng_key": 5,
  "r": 4,
  "revision": null,
  "save_projection": true,
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "task_type": "SEQ_CLS",
  "vera_dropout": 0.0
}`);
  });

  test("projections are of the widest linear, in PEFT's orientation, and drawn A before B by the key", async () => {
    const adapter = await made({ rank: 4, targetModules: ["q_proj", "down_proj"], layersToTransform: [0] });
    const directory = join(folder, "projections");
    await writeFiles(directory, await adapter.save(valuesOf(adapter)));
    await using file = await openSafetensors(join(directory, "adapter_model.safetensors"));
    const shapes = Object.fromEntries([...file.tensors].map(([name, { shape }]) => [name, shape]));
    const layer = "base_model.model.model.layers.0";
    expect(shapes).toEqual({
      "base_model.vera_A": [4, 128], // down_proj reads 128
      "base_model.vera_B": [64, 4],
      [`${layer}.self_attn.q_proj.vera_lambda_b`]: [64],
      [`${layer}.self_attn.q_proj.vera_lambda_d`]: [4],
      [`${layer}.mlp.down_proj.vera_lambda_b`]: [64],
      [`${layer}.mlp.down_proj.vera_lambda_d`]: [4],
      "base_model.model.score.weight": [3, 64],
    });
    // Kaiming-uniform: sqrt(3) sqrt(2) / sqrt(fan in), of the draws that torch.rand prints.
    const [a, b] = await Promise.all(["A", "B"].map((part) => floatsOf(file, `base_model.vera_${part}`)));
    const boundA = Math.sqrt(6 / 128);
    expect(a![0]).toBeCloseTo(boundA * (2 * 0.4963 - 1), 4);
    expect(a![1]).toBeCloseTo(boundA * (2 * 0.7682 - 1), 4);
    expect(a![9]).toBeCloseTo(boundA * (2 * 0.6323 - 1), 4);
    expect(Math.max(...a!.map(Math.abs))).toBeLessThanOrEqual(boundA);
    expect(b![0]).toBeCloseTo(torchUniform(0)(513, -Math.sqrt(1.5), Math.sqrt(1.5))[512]!, 6);
  });

  const floatsOf = async (file: Awaited<ReturnType<typeof openSafetensors>>, name: string) =>
    new Float32Array((await file.read(name)).slice().buffer);

  test("without save_projection the file has none, and the key draws the same again", async () => {
    const adapter = await made({ rank: 4, saveProjection: false, projectionPrngKey: 11 });
    const values = valuesOf(adapter);
    const directory = join(folder, "bare");
    await writeFiles(directory, await adapter.save(values));
    {
      await using file = await openSafetensors(join(directory, "adapter_model.safetensors"));
      expect([...file.tensors.keys()].filter((name) => name.includes("vera_A") || name.includes("vera_B"))).toEqual([]);
    }
    const config = JSON.parse(await Bun.file(join(directory, "adapter_config.json")).text());
    const { linears, head } = await toyModel().outline(3);
    const again = await vera.fromConfig(config).create({ linears, head, baseModel: "org/base", seed: 1 });
    const loaded = withFrozenValues(again, await again.load(openFolder(directory)));
    expect(loaded).toEqual(values);
  });

  test("keys of a state_dict are read, and projections that the config does not promise are passed over", async () => {
    const adapter = await made({ rank: 4, layersToTransform: [0] });
    const values = valuesOf(adapter);
    const directory = join(folder, "state-dict");
    await writeFiles(directory, await adapter.save(values));
    const path = join(directory, "adapter_model.safetensors");
    const tensors: [string, { dtype: "F32"; shape: readonly number[]; data: Float32Array }][] = [];
    {
      await using file = await openSafetensors(path);
      for (const [name, { shape }] of file.tensors) {
        const key = name.includes("vera_") ? `${name}.default` : name;
        tensors.push([key, { dtype: "F32", shape, data: await floatsOf(file, name) }]);
      }
    }
    expect(tensors.map(([name]) => name)).toContain("base_model.vera_A.default");
    await writeSafetensors(path, tensors, { format: "pt" });
    expect(await adapter.load(openFolder(directory))).toEqual(values);
    const other = await made({ rank: 4, layersToTransform: [0], saveProjection: false, projectionPrngKey: 2 });
    const loaded = await other.load(openFolder(directory));
    expect([...loaded.keys()].filter((name) => name.startsWith("base_model.vera_"))).toEqual([]);
  });

  test("a file that lacks the promised projection, and a config with what is not supported, are refused", async () => {
    const bare = await made({ rank: 4, saveProjection: false });
    const directory = join(folder, "lacking");
    await writeFiles(directory, await bare.save(valuesOf(bare)));
    const whole = await made({ rank: 4 });
    expect(await rejection(whole.load(openFolder(directory)))).toMatchObject({
      name: "ModelError",
      message: expect.stringContaining("base_model.vera_A"),
    });
    writeFileSync(join(directory, "note"), "");
    expect(() => vera.fromConfig({ peft_type: "VERA", r: 0, bias: "all", d_initial: "x" })).toThrow(
      'adapter_config.json: r is 0, expected a whole number from 1; d_initial is "x", expected a number; bias is "all", expected "none"',
    );
  });
});

describe("frozen tensors of any adapter", () => {
  /** LoRA that also reads two tensors which nothing trains. */
  const withFrozen = (frozen: readonly FrozenSpec[], seen: string[] = []) =>
    defineAdapter({
      name: "with-frozen",
      options: defineOptions({}),
      reads: () => false,
      optionsFrom: () => ({}),
      async create(_options, context) {
        const adapter = await lora({ rank: 2 }).create(context);
        return {
          ...adapter,
          frozen,
          initialize: (_gpu, _weightOf, _set, device) => void seen.push(`initialize ${device.frozen.get("f").label}`),
          adapt(spec, weight, set, device) {
            seen.push(`${device.gpu.tier} ${device.frozen.get("f").shape.join("x")}`);
            return adapter.adapt(spec, weight, set, device);
          },
        };
      },
    })();
  const open = (gpu: Parameters<typeof openSessionOn>[0], frozen: readonly FrozenSpec[], seen?: string[]) =>
    openSessionOn(gpu, { source: toyModel(), adapter: withFrozen(frozen, seen), numLabels: 3, seed: 1 });

  test.skipIf(tiers[0] === undefined)(
    "are uploaded once, given to initialize and adapt, read back and freed",
    async () => {
      const gpu = await gpuOf(tiers[0]!);
      const before = gpu.memory.report().used;
      let calls = 0;
      const initial = (): Float32Array<ArrayBuffer> => {
        calls++;
        return Float32Array.of(1, 2, 3, 4, 5, 6);
      };
      const seen: string[] = [];
      const session = await open(gpu, [{ name: "f", shape: [2, 3], initial }], seen);
      expect(calls).toBe(1);
      expect(seen[0]).toBe("initialize f");
      expect(seen.slice(1)).toEqual(Array.from({ length: 14 }, () => `${gpu.tier} 2x3`));
      expect((await adapterValues(session)).get("f")).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
      expect(() => session.frozen.get("g")).toThrow("no frozen tensor g");
      session[Symbol.dispose]();
      expect(gpu.memory.report().used).toBe(before);
    },
  );

  test("are counted by a memory plan, which asks for no values", async () => {
    const bytes = async (frozen: readonly FrozenSpec[]): Promise<number> => {
      const gpu = metaGpu(NVIDIA);
      using session = await open(gpu, frozen);
      return session.gpu.memory.report().byPurpose.adapter;
    };
    const initial = (): never => {
      throw new Error("a plan needs no values");
    };
    const [none, one] = [
      await bytes([{ name: "f", shape: [1], initial }]),
      await bytes([{ name: "f", shape: [65536], initial }]),
    ];
    expect(one - none).toBe(4 * 65536 - 256); // a buffer is of 256 bytes at least
  });

  test.skipIf(tiers[0] === undefined)("of a wrong size, or of one name, are refused and nothing is held", async () => {
    const gpu = await gpuOf(tiers[0]!);
    const before = gpu.memory.report().used;
    const spec: FrozenSpec = { name: "f", shape: [2], initial: () => new Float32Array(3) };
    expect(await rejection(open(gpu, [spec]))).toMatchObject({
      message: "3 values of the frozen tensor f, expected [2]",
    });
    const twice = { ...spec, initial: () => new Float32Array(2) };
    expect(await rejection(FrozenTensors.load(gpu, [twice, twice]))).toMatchObject({
      message: "two frozen tensors are named f",
    });
    expect(gpu.memory.report().used).toBe(before);
  });
});
