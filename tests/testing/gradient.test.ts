import { describe, expect, test } from "bun:test";
import type { Op } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { dequantize4bit, nf4CodeBook, quantizeAbsmax, quantize4bit } from "../../core/formats/nf4.ts";
import { attentionReference } from "../../kernels/attention/reference.ts";
import { crossEntropyReference, oneHot } from "../../kernels/cross-entropy/reference.ts";
import { dropoutMask } from "../../kernels/dropout/reference.ts";
import { gegluReference } from "../../kernels/glu/reference.ts";
import {
  addNorm,
  attention,
  crossEntropy,
  crossEntropySoft,
  dropout,
  glu,
  scoreHead,
  lastToken,
  loraLinears,
  rmsNorm,
  rope,
  ropeInverseFrequencies,
  softcap,
  upload4bit,
} from "../../kernels/index.ts";
import { poolReference } from "../../kernels/last-token/reference.ts";
import { projectReference } from "../../kernels/lora-linear/reference.ts";
import { rmsNormReference } from "../../kernels/rms-norm/reference.ts";
import { ropeReference } from "../../kernels/rope/reference.ts";
import { linearReference } from "../../kernels/score-head/reference.ts";
import { softcapReference } from "../../kernels/softcap/reference.ts";
import { checkGradient, type GradientProblem } from "../../testing/index.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";

/** A problem and the tensors it brings besides its operands. */
interface Case {
  readonly problem: GradientProblem;
  readonly tensors?: readonly Tensor[];
}

/** Two samples of 5 and 7 tokens, end to end. */
const lengths = [5, 7];
const segments = lengths.flatMap((length, b) => Array.from({ length }, () => (b === 0 ? [0, 5] : [5, 12]))).flat();
const positions = lengths.flatMap((length) => [...Array(length).keys()]);

const cases: Readonly<Record<string, (gpu: Gpu) => Case>> = {
  softcap: () => ({
    problem: {
      inputs: [{ name: "x", shape: [17, 3] }],
      run: (tape, [x]) => softcap(tape, x!, 2),
      reference: (x) => softcapReference(x, 2),
    },
  }),
  geglu: () => ({
    problem: {
      inputs: [
        { name: "gate", shape: [5, 31], dtype: "half" },
        { name: "up", shape: [5, 31], dtype: "half" },
      ],
      run: (tape, [gate, up]) => glu(tape, gate!, up!),
      reference: (gate, up) => gegluReference(gate, up, "gelu_tanh"),
    },
  }),
  "geglu with SiLU": () => ({
    problem: {
      inputs: [
        { name: "gate", shape: [4, 32], dtype: "half" },
        { name: "up", shape: [4, 32], dtype: "half" },
      ],
      run: (tape, [gate, up]) => glu(tape, gate!, up!, "silu"),
      reference: (gate, up) => gegluReference(gate, up, "silu"),
    },
  }),
  rmsNorm: (gpu) => {
    const w = normals(24, runSeed, 0.3);
    const weight = tensorOf(gpu, w, [24], "f32");
    return {
      problem: {
        inputs: [{ name: "x", shape: [7, 24] }],
        run: (tape, [x]) => rmsNorm(tape, x!, weight, { eps: 1e-6, offset: 1 }),
        reference: (x) => rmsNormReference(x, w, 1e-6, 1),
      },
      tensors: [weight],
    };
  },
  addNorm: (gpu) => {
    const w = normals(33, runSeed, 0.3);
    const weight = tensorOf(gpu, w, [33], "f32");
    return {
      problem: {
        inputs: [
          { name: "residual", shape: [6, 33] },
          { name: "x", shape: [6, 33], dtype: "half" },
        ],
        run: (tape, [residual, x]) => addNorm(tape, residual!, x!, weight, { eps: 1e-6, offset: 1 }),
        reference: (residual, x) => rmsNormReference(x, w, 1e-6, 1).map((v, i) => v + residual[i]!),
      },
      tensors: [weight],
    };
  },
  rope: (gpu) => {
    const frequencies = ropeInverseFrequencies(8, 100);
    const tensors = [tensorOf(gpu, segments, [12, 2], "u32"), tensorOf(gpu, frequencies, [4], "f32")];
    return {
      problem: {
        inputs: [{ name: "x", shape: [12, 16], dtype: "half" }],
        run: (tape, [x]) => rope(tape, x!, tensors[0]!, tensors[1]!, 8),
        reference: (x) => ropeReference(x, 16, positions, frequencies),
      },
      tensors,
    };
  },
  attention: (gpu) => {
    const shape = { heads: 2, kvHeads: 1, headDim: 32, scale: 0.2, softcap: 3, window: 4 };
    const table = tensorOf(gpu, segments, [12, 2], "u32");
    return {
      problem: {
        inputs: [
          { name: "q", shape: [12, 64], dtype: "half" },
          { name: "k", shape: [12, 32], dtype: "half" },
          { name: "v", shape: [12, 32], dtype: "half" },
        ],
        run: (tape, [q, k, v]) => attention(tape, q!, k!, v!, { ...shape, segments: table, maxSeqlen: 7 }),
        reference: (q, k, v) => attentionReference(q, k, v, { ...shape, segments }).out,
      },
      tensors: [table],
    };
  },
  pool: (gpu) => {
    const last = tensorOf(gpu, [4, 11], [2], "u32");
    return {
      problem: {
        inputs: [{ name: "x", shape: [12, 9] }],
        run: (tape, [x]) => lastToken(tape, x!, last),
        reference: (x) => poolReference(x, 9, [4, 11]),
      },
      tensors: [last],
    };
  },
  linear: () => ({
    problem: {
      inputs: [{ name: "x", shape: [5, 33] }],
      parameters: [{ name: "score.weight", shape: [3, 33] }],
      run: (tape, [x], parameters) => scoreHead(tape, x!, parameters.get("score.weight")),
      reference: (x, weight) => linearReference(x, weight, 33),
    },
  }),
  project: (gpu) => {
    const { codes, absmax } = quantize4bit(normals(20 * 64, runSeed, 0.1));
    const raw = {
      shape: [20, 64],
      dtype: "bfloat16",
      codes,
      codeBook: nf4CodeBook,
      ...quantizeAbsmax(absmax),
    } as const;
    const weight = upload4bit(gpu, raw, "linear");
    const dense = dequantize4bit(raw);
    const keys = [3, 99, 7, 1 << 20, 5, 6];
    const rowKeys = tensorOf(gpu, keys, [6], "u32");
    const mask = dropoutMask(keys, 64, { site: 2, seed: 5, p: 0.25 });
    const setting = { scale: 2, dropout: 0.25, site: 2 };
    return {
      problem: {
        inputs: [{ name: "x", shape: [6, 64], dtype: "half" }],
        parameters: [
          { name: "A", shape: [8, 64], values: normals(512, runSeed + 1, 0.2) },
          { name: "B", shape: [20, 8], values: normals(160, runSeed + 2, 0.2) },
        ],
        run: (tape, [x], parameters) => {
          const branch = { ...setting, a: parameters.get("A"), b: parameters.get("B") };
          return loraLinears(tape, x!, [{ weight, branch }], { rowKeys, training: true, seed: 5 })[0]!;
        },
        reference: (x, a, b) =>
          projectReference(x, 6, 64, {
            weight: dense,
            outFeatures: 20,
            branch: { a: a, b: b, rank: 8, scale: 2, mask },
          }),
      },
      tensors: [rowKeys, weight.codes, weight.absmax, ...(weight.nested === undefined ? [] : [weight.nested])],
    };
  },
  dropout: (gpu) => {
    const keys = [1, 5, 1 << 30];
    const rowKeys = tensorOf(gpu, keys, [3], "u32");
    const mask = dropoutMask(keys, 21, { site: 1, seed: 9, p: 0.4 });
    return {
      problem: {
        inputs: [{ name: "x", shape: [3, 21], dtype: "half" }],
        run: (tape, [x]) => dropout(tape, x!, { rowKeys, site: 1, seed: 9, p: 0.4 }),
        reference: (x) => x.map((v, i) => v * mask[i]!),
      },
      tensors: [rowKeys],
    };
  },
  crossEntropy: (gpu) => {
    const classes = [2, 0, 1, 2, 3];
    const labels = tensorOf(gpu, classes, [5], "u32");
    return {
      problem: {
        inputs: [{ name: "logits", shape: [5, 4] }],
        run: (tape, [logits]) => crossEntropy(tape, logits!, labels),
        reference: (logits) => crossEntropyReference(logits, oneHot(classes, 4), 4),
      },
      tensors: [labels],
    };
  },
  crossEntropySoft: (gpu) => {
    const weights = normals(15, runSeed).map(Math.abs);
    const targets = tensorOf(gpu, weights, [5, 3], "f32");
    return {
      problem: {
        inputs: [{ name: "logits", shape: [5, 3] }],
        run: (tape, [logits]) => crossEntropySoft(tape, logits!, targets),
        reference: (logits) => crossEntropyReference(logits, weights, 3),
      },
      tensors: [targets],
    };
  },
};

for (const tier of tiers) {
  describe(`gradients, tier ${tier} (seed ${runSeed})`, () => {
    for (const [name, make] of Object.entries(cases)) {
      const check = async (change: Partial<GradientProblem>): Promise<void> => {
        const gpu = await gpuOf(tier);
        const { problem, tensors = [] } = make(gpu);
        const report = await checkGradient(gpu, { ...problem, seed: runSeed, ...change });
        if (process.env["QLORA_TEST_REPORT"] !== undefined) console.error(name, report);
        for (const tensor of tensors) gpu.free(tensor);
      };
      test(`${name} against its reference`, () => check({}), 240_000);
      if (tier === "f32") test(`${name} against its own forward`, () => check({ reference: undefined }), 240_000);
    }
  });
}

const tier = tiers[0];

describe.skipIf(tier === undefined)("broken ops are caught", () => {
  /** 0.5 x, in three kernels' worth of ways to go wrong. */
  const half = (change: Partial<Op<object>>): GradientProblem => {
    const op: Op<object> = {
      name: "half",
      forward(t, [x]) {
        const y = t.like(x!, "half");
        scale(t.gpu, x!, y, 0.5);
        return { outputs: [y] };
      },
      backward(t, { dOutputs, inputs }) {
        const dX = t.like(inputs[0]!);
        scale(t.gpu, dOutputs[0]!, dX, 0.5);
        return [dX];
      },
      ...change,
    };
    return {
      inputs: [{ name: "x", shape: [40] }],
      run: (tape, [x]) => tape.run(op, [x!], {})[0]!,
      reference: (x) => x.map((v) => v / 2),
    };
  };
  const scale = (gpu: Gpu, x: Tensor, y: Tensor, factor: number, size = x.shape[0]!): void => {
    const kernel = gpu.kernel("test/scale", () => ({
      code: `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
          if (id.x < params.size) { y[id.x] = params.factor * x[id.x]; }
        }`,
      bindings: ["write", "read"],
      uniforms: { size: "u32", factor: "f32" },
    }));
    gpu.dispatch(kernel, [y, x], { size, factor }, [Math.ceil(size / 64), 1, 1]);
  };
  const checked = (problem: GradientProblem) => checkGradient(gpuOf(tier!), problem);
  const failure = (problem: GradientProblem): Promise<string> => checked(problem).then(() => "passed", String);

  test("a sound one passes, with and without a reference", async () => {
    expect(await checked(half({}))).toMatchObject({ output: 0 });
    expect((await checked({ ...half({}), reference: undefined }))["x"]).toBeLessThan(2e-4);
  });

  test("a wrong factor, with and without a reference", async () => {
    const problem = half({
      backward(t, { dOutputs, inputs }) {
        const dX = t.like(inputs[0]!);
        scale(t.gpu, dOutputs[0]!, dX, 0.51);
        return [dX];
      },
    });
    expect(await failure(problem)).toContain("the gradient of x: relative error 2.00e-2, allowed 0.0001; worst at");
    expect(await failure({ ...problem, reference: undefined })).toContain("the gradient of x along direction 0");
  });

  test("an element that is not written", async () => {
    const problem = half({
      backward(t, { dOutputs, inputs }) {
        const dX = t.like(inputs[0]!);
        scale(t.gpu, dOutputs[0]!, dX, 0.5, 39);
        return [dX];
      },
    });
    expect(await failure(problem)).toContain("the gradient of x: element 39 is NaN, expected a finite number");
  });

  test.skipIf(!tiers.includes("f16"))("f16 operands without a reference", async () => {
    const { problem } = cases["geglu"]!(await gpuOf("f16"));
    const message = await checkGradient(gpuOf("f16"), { ...problem, reference: undefined }).then(() => "", String);
    expect(message).toContain("needs a reference");
  });

  test("a gradient written over the one that is there already", async () => {
    const problem = half({
      backward(t, { dOutputs, inputs, existing }) {
        const dX = existing[0] ?? t.like(inputs[0]!);
        scale(t.gpu, dOutputs[0]!, dX, 0.5);
        return [dX];
      },
    });
    expect(await failure(problem)).toContain("the gradient of x, which two runs of the op read");
  });

  test("no gradient, a wrong forward, memory held", async () => {
    expect(await failure(half({ backward: () => [undefined] }))).toContain("x needs a gradient and got none");
    expect(await failure({ ...half({}), reference: (x) => x })).toContain("the output: relative error 5.00e-1");
    const gpu = await gpuOf(tier!);
    const kept: Tensor[] = [];
    const leak: GradientProblem = {
      ...half({}),
      run: (tape, inputs, parameters) => {
        kept.push(gpu.alloc([1], "f32", "kept"));
        return half({}).run(tape, inputs, parameters);
      },
    };
    expect(await failure(leak)).toContain("bytes of GPU memory are still held");
    for (const tensor of kept) gpu.free(tensor);
  });
});
