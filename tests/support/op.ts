import { Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { tensorOf } from "./gpu.ts";

/** Output of a recorded computation and the gradients of its inputs. */
export interface OpRun {
  readonly output: Float32Array;
  readonly gradients: readonly Float32Array[];
}

/**
 * Runs `body` on a tape, then backward from `dOutput`, and reads everything back. Fails if the tape leaks.
 * @param inputs tensors that need a gradient; freed at the end
 */
export async function runOp(
  gpu: Gpu,
  inputs: readonly Tensor[],
  body: (tape: Tape, ...inputs: Tensor[]) => Tensor,
  dOutput: ArrayLike<number>,
): Promise<OpRun> {
  const tape = new Tape(gpu);
  for (const tensor of inputs) tape.requireGradient(tensor);
  const outputTensor = body(tape, ...inputs);
  const output = await gpu.readFloats(outputTensor);
  const seed = tape.like(outputTensor);
  const values = tensorOf(gpu, dOutput, seed.shape, seed.dtype === "f16" ? "f16" : "f32");
  gpu.copy(values, seed);
  gpu.free(values);
  const gradients: Float32Array[] = [];
  for (const gradient of tape.backward([[outputTensor, seed]], inputs)) {
    if (gradient === undefined) throw new Error("an input got no gradient");
    gradients.push(await gpu.readFloats(gradient));
    gpu.free(gradient);
  }
  tape.close();
  for (const tensor of inputs) gpu.free(tensor);
  return { output, gradients };
}

/** Central differences of a scalar function of f64 numbers, to prove a reference's backward by its forward. */
export function differences(f: (x: Float64Array) => number, at: ArrayLike<number>, step = 1e-5): Float64Array {
  const x = Float64Array.from(at);
  return x.map((value, i) => {
    const shifted = (delta: number): number => {
      const y = x.slice();
      y[i] = value + delta;
      return f(y);
    };
    return (shifted(step) - shifted(-step)) / (2 * step);
  });
}

/** Sum of products. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!;
  return total;
}

/**
 * What a correctly rounded result in this operand type may differ by: half a unit in the last place of f16 (and of its
 * smallest numbers), with room for f32 arithmetic before the rounding; in f32, that arithmetic alone.
 */
export function halfTolerance(half: "f16" | "f32"): { rtol: number; atol: number } {
  return half === "f16" ? { rtol: 2 ** -11 + 1e-5, atol: 2 ** -25 + 2e-6 } : { rtol: 1e-5, atol: 2e-6 };
}
