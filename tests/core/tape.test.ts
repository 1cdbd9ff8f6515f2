import { describe, expect, test } from "bun:test";
import { accumulate } from "../../core/compute/accumulate.ts";
import { type Op, Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { glu } from "../../kernels/glu/index.ts";
import { addNorm, rmsNorm } from "../../kernels/rms-norm/index.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, runSeed, tensorOf, tiers } from "../support/gpu.ts";

/** Tripling, whose backward gives a fresh gradient and ignores what is there: the tape must add. */
const triple: Op<undefined> = {
  name: "triple",
  forward: (tape, [x]) => {
    const y = tape.like(x!, "3x");
    tape.gpu.copy(x!, y);
    for (let i = 0; i < 2; i++) accumulate(tape.gpu, y, x!);
    return { outputs: [y] };
  },
  backward: (tape, { dOutputs }) => {
    const dX = tape.like(dOutputs[0]!);
    tape.gpu.copy(dOutputs[0]!, dX);
    for (let i = 0; i < 2; i++) accumulate(tape.gpu, dX, dOutputs[0]!);
    return [dX];
  },
};

/** x + y: the gradient is handed on to one input and copied for the other. */
const sum: Op<undefined> = {
  name: "sum",
  forward: (tape, [x, y]) => {
    const out = tape.like(x!, "x + y");
    tape.gpu.copy(x!, out);
    accumulate(tape.gpu, out, y!);
    return { outputs: [out] };
  },
  backward: (tape, { dOutputs, needs }) => {
    const copy = needs[1] === true ? tape.like(dOutputs[0]!) : undefined;
    if (copy !== undefined) tape.gpu.copy(dOutputs[0]!, copy);
    return [needs[0] === true ? dOutputs[0] : undefined, copy];
  },
};

for (const tier of tiers) {
  describe(`recorder, tier ${tier}`, () => {
    test("a tensor used three times gets the sum of its gradients", async () => {
      const gpu = await gpuOf(tier);
      const before = gpu.memory.report().used;
      const x = tensorOf(gpu, [1, -2, 0.5], [3], "f32");
      const tape = new Tape(gpu);
      tape.requireGradient(x);
      const [a] = tape.run(triple, [x], undefined);
      const [b] = tape.run(sum, [a!, x], undefined); // 4x
      const [c] = tape.run(sum, [b!, a!], undefined); // 7x
      const seed = tape.alloc([3], "f32", "seed");
      gpu.write(seed, Float32Array.of(1, 10, 100));
      const [dX] = tape.backward([[c!, seed]], [x]);
      expectClose(await gpu.readFloats(dX!), [7, 70, 700], {});
      gpu.free(dX!);
      gpu.free(x);
      tape.close();
      expect(gpu.memory.report().used).toBe(before);
    });

    test("frozen inputs get no gradient and record nothing", async () => {
      const gpu = await gpuOf(tier);
      const x = tensorOf(gpu, [1, 2], [2], "f32");
      const trained = tensorOf(gpu, [3, 4], [2], "f32");
      const seen: string[] = [];
      const tape = new Tape(gpu, { onGradient: (t) => seen.push(t.label) });
      tape.requireGradient(trained);
      const [frozen] = tape.run(triple, [x], undefined);
      const [out] = tape.run(sum, [frozen!, trained], undefined);
      expect(tape.needsGradient(frozen!)).toBe(false);
      const seed = tape.like(out!);
      gpu.write(seed, Float32Array.of(1, 1));
      const [dFrozen, dTrained] = tape.backward([[out!, seed]], [frozen!, trained]);
      expect(dFrozen).toBeUndefined();
      expectClose(await gpu.readFloats(dTrained!), [1, 1], {});
      expect(seen).toEqual(["x + y"]);
      for (const t of [dTrained!, x, trained]) gpu.free(t);
      tape.close();
    });

    test("checkpointing gives bit-equal gradients and frees what is inside", async () => {
      const gpu = await gpuOf(tier);
      const [rows, columns] = [13, 64];
      const x = tensorOf(gpu, normals(rows * columns, runSeed), [rows, columns], "f32");
      const weight = tensorOf(gpu, normals(columns, runSeed + 1), [columns], "f32");
      const body = (tape: Tape, [h]: readonly Tensor[]): [Tensor] => {
        const y = rmsNorm(tape, h!, weight, { eps: 1e-6, offset: 1 });
        const z = glu(tape, y, y === undefined ? y : rmsNorm(tape, h!, weight, { eps: 1e-6, offset: 0 }));
        return [addNorm(tape, h!, z, weight, { eps: 1e-6, offset: 1 })];
      };
      const run = async (checkpointed: boolean): Promise<{ gradient: Float32Array; peak: number }> => {
        gpu.memory.trim();
        gpu.memory.resetPeak();
        const tape = new Tape(gpu);
        tape.requireGradient(x);
        let h: Tensor = x;
        for (let i = 0; i < 3; i++) {
          [h] = (checkpointed ? tape.checkpoint("block", [h], body) : tape.scope(() => body(tape, [h]))) as [Tensor];
        }
        const held = gpu.memory.report().used;
        const seed = tape.like(h);
        gpu.write(seed, normals(rows * columns, 5));
        const [dX] = tape.backward([[h, seed]], [x]);
        const gradient = await gpu.readFloats(dX!);
        gpu.free(dX!);
        tape.close();
        return { gradient, peak: held };
      };
      const plain = await run(false);
      const replayed = await run(true);
      expect(replayed.gradient).toEqual(plain.gradient);
      expect(replayed.gradient.every((v) => Number.isFinite(v))).toBe(true);
      expect(replayed.peak).toBeLessThan(plain.peak);
      gpu.free(x);
      gpu.free(weight);
    });

    test.each([true, false])(
      "an op that reads what was released is an error that names both, recording %p",
      async (recording) => {
        const gpu = await gpuOf(tier);
        const x = tensorOf(gpu, [1, 2], [2], "f32");
        const tape = new Tape(gpu, { recording });
        tape.requireGradient(x);
        const [y] = tape.run(triple, [x], undefined);
        // `kept` saves y: while it is recorded, y's memory is there all the same.
        const kept: Op<undefined> = {
          ...triple,
          name: "kept",
          forward: (...of) => ({ ...triple.forward(...of), saved: of[1] }),
        };
        tape.run(kept, [y!], undefined);
        tape.release(y!);
        const says =
          "op triple reads 3x [2] f32, which was released before: release it after the last op that reads it, triple included";
        expect(() => tape.run(triple, [y!], undefined)).toThrow(says);
        expect(() => tape.checkpoint("triple", [y!], () => [])).toThrow(says);
        tape.close();
        gpu.free(x);
      },
    );

    test.each([
      ["saves", (private_: Tensor, y: Tensor) => ({ outputs: [y], saved: [private_] })],
      ["returns", (private_: Tensor) => ({ outputs: [private_] })],
    ] as const)("an op that %s what it has released is an error, in evaluation too", async (does, give) => {
      const gpu = await gpuOf(tier);
      const x = tensorOf(gpu, [1, 2], [2], "f32");
      const hasty: Op<undefined> = {
        ...triple,
        name: "hasty",
        forward: (tape, [input]) => {
          const [y, own] = [tape.like(input!, "y"), tape.like(input!, "own")];
          tape.release(own);
          return give(own, y);
        },
      };
      for (const recording of [true, false]) {
        const tape = new Tape(gpu, { recording });
        tape.requireGradient(x);
        expect(() => tape.run(hasty, [x], undefined)).toThrow(
          `op hasty ${does} own [2] f32, which was released before`,
        );
        tape.close();
      }
      gpu.free(x);
    });

    test("a leak is an error", async () => {
      const gpu = await gpuOf(tier);
      const tape = new Tape(gpu);
      tape.requireGradient(tape.alloc([4], "f32", "kept"));
      tape.close();
      expect(() =>
        gpu.free({ buffer: {} as GPUBuffer, offset: 0, shape: [1], dtype: "f32", label: "stranger" }),
      ).toThrow("not live");
    });
  });
}
