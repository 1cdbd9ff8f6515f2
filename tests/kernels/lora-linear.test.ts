import { describe, expect, test } from "bun:test";
import type { LowRankBranch } from "../../core/compute/linear.ts";
import { ParameterSet } from "../../core/compute/parameters.ts";
import { Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { dequantize4bit, nf4CodeBook, type Packed4bit, quantizeAbsmax, quantize4bit } from "../../core/formats/nf4.ts";
import { dropoutMask } from "../../kernels/dropout/reference.ts";
import type { LoraLinearPart } from "../../kernels/lora-linear/attrs.ts";
import { loraLinears } from "../../kernels/lora-linear/index.ts";
import { projectBackwardReference, projectReference, type ReferencePart } from "../../kernels/lora-linear/reference.ts";
import { freeWeight, upload4bit } from "../../kernels/nf4/index.ts";
import { sameBits } from "../formats/support.ts";
import { expectClose, expectNear } from "../support/close.ts";
import { gpuOf, normals, random, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";

/** Pipelines compile for a second or more on a software adapter that has not seen them. */
const TIMEOUT = 120_000;
const IN = 64;
const SEED = 1234;

/** Three linears on one input: with dropout, without, and without a branch. */
const linears = (outs: readonly [number, number, number]) => [
  { out: outs[0], rank: 8, scale: 2, dropout: 0.25 },
  { out: outs[1], rank: 4, scale: 0.5, dropout: 0 },
  { out: outs[2], rank: 0, scale: 0, dropout: 0 },
];
type Settings = ReturnType<typeof linears>;
const ODD = linears([48, 20, 36]);
/** Sizes that subgroup matrices serve. */
const WHOLE = linears([64, 192, 128]);

class Fixture {
  readonly parts: readonly LoraLinearPart[];
  readonly parameters: ParameterSet;
  readonly raw: readonly Packed4bit[];
  readonly gpu: Gpu;
  readonly settings: Settings;

  constructor(gpu: Gpu, settings: Settings) {
    this.gpu = gpu;
    this.settings = settings;
    this.raw = settings.map(({ out }, i) => {
      const { codes, absmax } = quantize4bit(normals(out * IN, runSeed + 10 + i, 0.1));
      return { shape: [out, IN], dtype: "bfloat16", codes, codeBook: nf4CodeBook, ...quantizeAbsmax(absmax) };
    });
    const values = (n: number, seed: number) => rounded(normals(n, runSeed + seed, 0.2), gpu.computeDtype);
    this.parameters = new ParameterSet(
      gpu,
      settings.flatMap(({ out, rank }, i) =>
        rank === 0
          ? []
          : [
              { name: `${i}.A`, shape: [rank, IN], initial: () => values(rank * IN, 20 + i) },
              { name: `${i}.B`, shape: [out, rank], initial: () => values(out * rank, 30 + i) },
            ],
      ),
    );
    this.parts = this.raw.map((raw, i) => {
      const { rank, scale, dropout } = settings[i]!;
      const weight = upload4bit(gpu, raw, `linear ${i}`);
      if (rank === 0) return { weight };
      const branch: LowRankBranch = {
        a: this.parameters.get(`${i}.A`),
        b: this.parameters.get(`${i}.B`),
        scale,
        dropout,
        site: 7 + i,
      };
      return { weight, branch };
    });
  }

  /** What the f64 reference computes with. */
  async reference(i: number, rowKeys: readonly number[], training: boolean): Promise<ReferencePart> {
    const { out, rank, scale, dropout } = this.settings[i]!;
    const part = { weight: dequantize4bit(this.raw[i]!), outFeatures: out };
    if (rank === 0) return part;
    const values = await this.parameters.readValues();
    const mask = dropoutMask(rowKeys, IN, { site: 7 + i, seed: SEED, p: training ? dropout : 0 });
    return { ...part, branch: { a: values.get(`${i}.A`)!, b: values.get(`${i}.B`)!, rank, scale, mask } };
  }

  free(): void {
    for (const { weight } of this.parts) freeWeight(this.gpu, weight);
    for (const { value, grad } of this.parameters.slabs) {
      this.gpu.free(value);
      this.gpu.free(grad);
    }
  }
}

const keysOf = (rows: number): number[] => {
  const next = random(runSeed + 77);
  return Array.from({ length: rows }, () => Math.floor(next() * 2 ** 32));
};

const runs = tiers.flatMap((tier) =>
  (tier === "matrix" ? [ODD, WHOLE] : [ODD]).map((settings) => ({ tier, settings })),
);
for (const { tier, settings } of runs) {
  describe(`project, tier ${tier}, ${settings.map((s) => s.out).join(" + ")} features (seed ${runSeed})`, () => {
    // f16: inputs of each product and its result are rounded, to 2^-12 on average; three to four of them in a row.
    const limit = tier === "f32" ? 5e-6 : 1.5e-3;

    for (const rows of [1, 17, 257, 700]) {
      test(
        `${rows} tokens through three linears, forward and every gradient`,
        async () => {
          const gpu = await gpuOf(tier);
          const fixture = new Fixture(gpu, settings);
          const rowKeys = keysOf(rows);
          const xv = rounded(normals(rows * IN, runSeed + 1), gpu.computeDtype);
          const x = tensorOf(gpu, xv, [rows, IN], gpu.computeDtype, "x");
          const keys = tensorOf(gpu, rowKeys, [rows], "u32", "row keys");
          const tape = new Tape(gpu);
          tape.requireGradient(x);
          const outputs = loraLinears(tape, x, fixture.parts, { rowKeys: keys, training: true, seed: SEED });
          const references = await Promise.all(settings.map((_, i) => fixture.reference(i, rowKeys, true)));
          for (const [i, y] of outputs.entries()) {
            expectNear(await gpu.readFloats(y), projectReference(xv, rows, IN, references[i]!), limit, `y ${i}`);
          }
          const gradients = outputs.map((y, i) => rounded(normals(rows * settings[i]!.out, runSeed + 40 + i), y.dtype));
          const seeds = outputs.map((y, i): [Tensor, Tensor] => {
            const dY = tape.like(y);
            gpu.write(dY, gpu.computeDtype === "f16" ? Float16Array.from(gradients[i]!) : gradients[i]!);
            return [y, dY];
          });
          const [dX] = tape.backward(seeds, [x]);
          const wants = references.map((part, i) => projectBackwardReference(xv, gradients[i]!, rows, IN, part));
          const wantX = Float64Array.from(xv, (_, at) => wants.reduce((sum, { dX: share }) => sum + share[at]!, 0));
          expectNear(await gpu.readFloats(dX!), wantX, limit, "dX");
          const found = await fixture.parameters.readGradients();
          for (const i of [0, 1]) {
            expectNear(found.get(`${i}.A`)!, wants[i]!.dA, limit, `dA ${i}`);
            expectNear(found.get(`${i}.B`)!, wants[i]!.dB, limit, `dB ${i}`);
          }
          tape.release(...outputs);
          tape.close();
          for (const tensor of [x, keys, dX!]) gpu.free(tensor);
          fixture.free();
        },
        TIMEOUT,
      );
    }

    test(
      "adds to a gradient that is there, skips outputs without one, and leaves a frozen input alone",
      async () => {
        const gpu = await gpuOf(tier);
        const fixture = new Fixture(gpu, settings);
        const rows = 9;
        const rowKeys = keysOf(rows);
        const xv = rounded(normals(rows * IN, runSeed + 1), gpu.computeDtype);
        const x = tensorOf(gpu, xv, [rows, IN], gpu.computeDtype, "x");
        const keys = tensorOf(gpu, rowKeys, [rows], "u32", "row keys");
        const options = { rowKeys: keys, training: false, seed: SEED };
        const dv = rounded(normals(rows * settings[1]!.out, runSeed + 2), gpu.computeDtype);
        const want = projectBackwardReference(xv, dv, rows, IN, await fixture.reference(1, rowKeys, false));
        for (const frozen of [false, true]) {
          fixture.parameters.zeroGrad();
          const tape = new Tape(gpu);
          if (!frozen) tape.requireGradient(x);
          // Twice the same linears on the same x: the second op to run backward finds a gradient there.
          const first = loraLinears(tape, x, fixture.parts, options);
          const second = loraLinears(tape, x, fixture.parts, options);
          const seeds = [first[1]!, second[1]!].map((y): [Tensor, Tensor] => [y, tape.like(y)]);
          for (const [, dY] of seeds) gpu.write(dY, gpu.computeDtype === "f16" ? Float16Array.from(dv) : dv);
          const [dX] = tape.backward(seeds, frozen ? [] : [x]);
          const found = await fixture.parameters.readGradients();
          expectNear(
            found.get("1.A")!,
            want.dA.map((v) => 2 * v),
            limit,
            "dA",
          );
          expectNear(
            found.get("1.B")!,
            want.dB.map((v) => 2 * v),
            limit,
            "dB",
          );
          expect(Math.max(...found.get("0.A")!, ...found.get("0.B")!)).toBe(0);
          expect(dX === undefined).toBe(frozen);
          if (dX !== undefined) {
            expectNear(
              await gpu.readFloats(dX),
              want.dX.map((v) => 2 * v),
              limit,
              "dX",
            );
            gpu.free(dX);
          }
          tape.close();
        }
        gpu.free(x);
        gpu.free(keys);
        fixture.free();
      },
      TIMEOUT,
    );

    test(
      "dropout: a checkpoint draws the same masks again, and a token's row does not depend on its batch",
      async () => {
        const gpu = await gpuOf(tier);
        const fixture = new Fixture(gpu, settings);
        const rows = 40;
        const rowKeys = keysOf(rows);
        const xv = rounded(normals(rows * IN, runSeed + 1), gpu.computeDtype);
        const turn = (i: number): number => (i + 13) % rows;
        const dv = rounded(normals(rows * settings[0]!.out, runSeed + 2), gpu.computeDtype);

        const run = async (
          values: Float32Array<ArrayBuffer>,
          keyValues: readonly number[],
          dValues: Float32Array,
          checkpointed: boolean,
        ) => {
          fixture.parameters.zeroGrad();
          const x = tensorOf(gpu, values, [rows, IN], gpu.computeDtype, "x");
          const keys = tensorOf(gpu, keyValues, [rows], "u32", "row keys");
          const tape = new Tape(gpu);
          tape.requireGradient(x);
          const body = (on: Tape, [input]: readonly Tensor[]) =>
            loraLinears(on, input!, fixture.parts.slice(0, 1), { rowKeys: keys, training: true, seed: SEED });
          const [y] = checkpointed ? tape.checkpoint("block", [x], body) : body(tape, [x]);
          const dY = tape.like(y!);
          gpu.write(dY, gpu.computeDtype === "f16" ? Float16Array.from(dValues) : Float32Array.from(dValues));
          const forward = await gpu.readFloats(y!);
          const [dX] = tape.backward([[y!, dY]], [x]);
          const result = {
            y: forward,
            dX: await gpu.readFloats(dX!),
            parameters: await fixture.parameters.readGradients(),
          };
          tape.close();
          for (const tensor of [x, keys, dX!]) gpu.free(tensor);
          return result;
        };
        const plain = await run(xv, rowKeys, dv, false);
        const replayed = await run(xv, rowKeys, dv, true);
        expect(sameBits(replayed.y, plain.y)).toBe(true);
        expect(sameBits(replayed.dX, plain.dX)).toBe(true);
        for (const [name, grad] of plain.parameters) expect(sameBits(replayed.parameters.get(name)!, grad)).toBe(true);

        const rotate = (from: Float32Array, width: number) =>
          Float32Array.from(from, (_, at) => from[turn(Math.floor(at / width)) * width + (at % width)]!);
        const out = settings[0]!.out;
        const turned = await run(
          rotate(xv, IN),
          rowKeys.map((_, i) => rowKeys[turn(i)]!),
          rotate(dv, out),
          false,
        );
        expect(sameBits(turned.y, rotate(plain.y, out))).toBe(true);
        expect(sameBits(turned.dX, rotate(plain.dX, IN))).toBe(true);
        const other = await run(
          xv,
          rowKeys.map((key) => key ^ 1),
          dv,
          false,
        );
        expect(sameBits(other.y, plain.y)).toBe(false);
        fixture.free();
      },
      TIMEOUT,
    );
  });
}

test("the reference's gradients are those of central differences of its forward pass", () => {
  const [rows, inFeatures, outFeatures, rank] = [3, 8, 5, 2];
  const x = Float64Array.from(normals(rows * inFeatures, runSeed + 1));
  const weight = Float64Array.from(normals(outFeatures * inFeatures, runSeed + 2));
  const a = Float64Array.from(normals(rank * inFeatures, runSeed + 3));
  const b = Float64Array.from(normals(outFeatures * rank, runSeed + 4));
  const dY = Float64Array.from(normals(rows * outFeatures, runSeed + 5));
  const mask = dropoutMask([5, 6, 7], inFeatures, { site: 1, seed: 2, p: 0.4 });
  const part: ReferencePart = { weight, outFeatures, branch: { a, b, rank, scale: 0.7, mask } };
  const loss = (): number => projectReference(x, rows, inFeatures, part).reduce((sum, v, i) => sum + v * dY[i]!, 0);
  const { dX, dA, dB } = projectBackwardReference(x, dY, rows, inFeatures, part);
  for (const [values, gradient] of [
    [x, dX],
    [a, dA],
    [b, dB],
  ] as const) {
    const differences = values.map((value, i) => {
      values[i] = value + 1e-4;
      const above = loss();
      values[i] = value - 1e-4;
      const below = loss();
      values[i] = value;
      return (above - below) / 2e-4;
    });
    expectClose(gradient, differences, { rtol: 1e-6, atol: 1e-6 });
  }
});
