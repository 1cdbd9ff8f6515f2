/** Checks an op's backward by its forward. */
import { ParameterSet } from "../core/compute/parameters.ts";
import { Tape } from "../core/compute/tape.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { type DType, elementCount, type Tensor } from "../core/device/tensor.ts";
import { normalValues, uniformValues } from "../core/util/random.ts";
import { ContractError, expectFinite, expectNear, expectThat } from "./contract.ts";
import { differences, directional, dot, norm } from "./finite-differences.ts";
import { expectNothingHeld } from "./leaks.ts";

/** An input or a parameter of the op under test. */
export interface GradientOperand {
  readonly name: string;
  readonly shape: readonly number[];
  /** Default: seeded normal numbers. */
  readonly values?: ArrayLike<number>;
}

/** An input of the op under test. */
export interface GradientInput extends GradientOperand {
  /** `half` is the tier's operand type (`gpu.computeDtype`). Default `f32`. */
  readonly dtype?: "f32" | "half";
}

/** An op, what it runs on, and how nearly its gradients must agree with differences. */
export interface GradientProblem {
  /** Tensors that need a gradient. What else the op reads (labels, tables) `run` brings itself. */
  readonly inputs: readonly GradientInput[];
  /** Trainable tensors whose gradients the op adds into `parameter.grad`. */
  readonly parameters?: readonly GradientOperand[];
  /** Runs the op. */
  readonly run: (tape: Tape, inputs: readonly Tensor[], parameters: ParameterSet) => Tensor;
  /**
   * The same computation in f64, inputs first and then parameters: differences are taken of it, and `run`'s output must
   * agree with it. Without one they are taken of `run` itself, which needs f32 inputs and an f32 output.
   */
  readonly reference?: (...operands: Float64Array[]) => ArrayLike<number>;
  /**
   * Allowed relative L2 error of a gradient. Default with a reference: 1e-4, or 1e-2 where anything is f16. Without:
   * 2e-3, since the differences of an f32 forward are themselves good to a few parts in 10,000 only.
   */
  readonly tolerance?: number;
  /** Step of the differences, relative to operands of size 1. Default 1e-4 with a reference, 0.02 without. */
  readonly step?: number;
  readonly seed?: number;
}

/** Relative errors by name: of the output (with a reference), of each input's and each parameter's gradient. */
export type GradientReport = Readonly<Record<string, number>>;

/** Operands of at most so many elements are checked element by element, larger ones along random directions. */
const ELEMENTWISE = 600;
const DIRECTIONS = 6;

interface Pass {
  readonly output: Float32Array;
  readonly dtype: DType;
  /** By input; undefined for those that were frozen. */
  readonly inputs: readonly (Float32Array | undefined)[];
  readonly parameters: readonly Float32Array[];
}

/** Runs the problem's op on the device. */
class Runner {
  readonly #gpu: Gpu;
  readonly #problem: GradientProblem;
  readonly #dtypes: readonly ("f32" | "f16")[];

  constructor(gpu: Gpu, problem: GradientProblem) {
    this.#gpu = gpu;
    this.#problem = problem;
    this.#dtypes = problem.inputs.map(({ dtype = "f32" }) => (dtype === "half" ? gpu.computeDtype : "f32"));
  }

  /** Values as the device holds them. */
  rounded(values: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer>[] {
    return values.map((v, i) => (this.#dtypes[i] === "f16" ? Float32Array.from(Float16Array.from(v)) : v));
  }

  get anyHalf(): boolean {
    return this.#dtypes.includes("f16");
  }

  upload(values: ArrayLike<number>, shape: readonly number[], dtype: "f32" | "f16", label: string): Tensor {
    const data = dtype === "f16" ? Float16Array.from(values) : Float32Array.from(values);
    return this.#gpu.upload(data, shape, dtype, label);
  }

  /** [output] of a forward pass that records nothing. */
  async forward(operands: readonly Float32Array<ArrayBuffer>[]): Promise<Float32Array> {
    return this.#with(operands, async (inputs, parameters) => {
      const tape = new Tape(this.#gpu, { recording: false });
      const output = await this.#gpu.readFloats(this.#problem.run(tape, inputs, parameters));
      tape.close();
      return output;
    });
  }

  /** Forward and backward `times` times on one tape; only the inputs that `needs` names need a gradient. */
  async backward(
    operands: readonly Float32Array<ArrayBuffer>[],
    dOutput: (size: number) => Float32Array,
    needs: readonly boolean[],
    times: number,
  ): Promise<Pass> {
    const gpu = this.#gpu;
    return this.#with(operands, async (inputs, parameters) => {
      const tape = new Tape(gpu);
      inputs.forEach((tensor, i) => needs[i] === true && tape.requireGradient(tensor));
      const outputs = Array.from({ length: times }, () => this.#problem.run(tape, inputs, parameters));
      const output = await gpu.readFloats(outputs[0]!);
      const seeds = outputs.map((tensor): [Tensor, Tensor] => {
        const seed = tape.like(tensor);
        const values = this.upload(dOutput(output.length), seed.shape, seed.dtype === "f16" ? "f16" : "f32", "seed");
        gpu.copy(values, seed);
        gpu.free(values);
        return [tensor, seed];
      });
      const gradients: (Float32Array | undefined)[] = [];
      for (const gradient of tape.backward(seeds, inputs)) {
        gradients.push(gradient === undefined ? undefined : await gpu.readFloats(gradient));
        if (gradient !== undefined) gpu.free(gradient);
      }
      tape.close();
      const added = await parameters.readGradients();
      return {
        output,
        dtype: outputs[0]!.dtype,
        inputs: gradients,
        parameters: parameters.parameters.map((p) => added.get(p.name)!),
      };
    });
  }

  async #with<T>(
    operands: readonly Float32Array<ArrayBuffer>[],
    body: (inputs: readonly Tensor[], parameters: ParameterSet) => Promise<T>,
  ): Promise<T> {
    const { inputs: specs, parameters: trainable = [] } = this.#problem;
    const inputs = specs.map(({ name, shape }, i) => this.upload(operands[i]!, shape, this.#dtypes[i]!, name));
    const parameters = new ParameterSet(
      this.#gpu,
      trainable.map(({ name, shape }, i) => ({ name, shape, initial: () => operands[specs.length + i]!.slice() })),
    );
    try {
      return await body(inputs, parameters);
    } finally {
      for (const tensor of inputs) this.#gpu.free(tensor);
      parameters.free();
    }
  }
}

/**
 * Checks every gradient that an op gives against central differences, on random operands and a random gradient of the
 * output; and the rules of the tape: each input alone may need a gradient, gradients add up where the op runs twice on the
 * same tensors, parameters' are added, every element is written, no memory leaks.
 * @returns the errors, for a report
 * @throws ContractError naming the gradient, the worst element or direction, and both numbers
 * @example
 * await checkGradient(gpu, {
 *   inputs: [{ name: "x", shape: [17, 3] }],
 *   run: (tape, [x]) => softcap(tape, x!, 30),
 *   reference: (x) => x.map((v) => 30 * Math.tanh(v / 30)),
 * });
 */
export function checkGradient(gpu: Gpu | Promise<Gpu>, problem: GradientProblem): Promise<GradientReport> {
  return expectNothingHeld(gpu, "the op", (device) => check(device, problem));
}

async function check(gpu: Gpu, problem: GradientProblem): Promise<GradientReport> {
  const { inputs, parameters = [], reference, seed = 1 } = problem;
  const specs = [...inputs, ...parameters];
  const runner = new Runner(gpu, problem);
  const operands = runner.rounded(
    specs.map(({ name, shape, values }) =>
      values === undefined ? normalValues(elementCount(shape), 1, seed, name) : Float32Array.from(values),
    ),
  );
  const all = inputs.map(() => true);
  const draw = (size: number): Float32Array => normalValues(size, 1, seed, "gradient of the output");
  const first = await runner.backward(operands, draw, all, 1);
  const half = runner.anyHalf || first.dtype === "f16";
  const tolerance = problem.tolerance ?? (reference === undefined ? 2e-3 : half ? 1e-2 : 1e-4);
  if (reference === undefined && half) {
    throw new ContractError("an op with f16 operands needs a reference: differences of f16 results are too coarse");
  }
  // The device's copy of it may be f16.
  const dOutput =
    first.dtype === "f16" ? Float32Array.from(Float16Array.from(draw(first.output.length))) : draw(first.output.length);
  expectFinite(first.output, "the output");
  const report: Record<string, number> = {};

  if (reference !== undefined) {
    const want = reference(...operands.map((x) => Float64Array.from(x)));
    report["output"] = expectNear(first.output, want, tolerance, "the output");
  }
  const gradients = [...first.inputs, ...first.parameters];
  for (const [i, { name }] of specs.entries()) {
    const gradient = gradients[i];
    expectThat(gradient !== undefined, `${name} needs a gradient and got none`);
    expectFinite(gradient, `the gradient of ${name}`);
    report[name] =
      reference === undefined
        ? await againstForward(runner, problem, operands, i, gradient, dOutput, tolerance)
        : againstReference(reference, problem, operands, i, gradient, dOutput, tolerance);
  }
  await checkRules(runner, problem, operands, draw, first, half);
  return report;
}

function againstReference(
  reference: NonNullable<GradientProblem["reference"]>,
  { inputs, parameters = [], step = 1e-4, seed = 1 }: GradientProblem,
  operands: readonly Float32Array[],
  i: number,
  gradient: Float32Array,
  dOutput: Float32Array,
  tolerance: number,
): number {
  const exact = operands.map((x) => Float64Array.from(x));
  const loss = (x: Float64Array): number => dot(reference(...exact.map((other, k) => (k === i ? x : other))), dOutput);
  const what = `the gradient of ${[...inputs, ...parameters][i]!.name}`;
  if (gradient.length <= ELEMENTWISE) return expectNear(gradient, differences(loss, exact[i]!, step), tolerance, what);
  let worst = 0;
  for (let k = 0; k < DIRECTIONS; k++) {
    const direction = signs(gradient.length, seed, `${i} ${k}`);
    const want = directional((x) => loss(x), exact[i]!, direction, step);
    worst = Math.max(worst, expectAlong(gradient, direction, want, tolerance, `${what} along direction ${k}`));
  }
  return worst;
}

async function againstForward(
  runner: Runner,
  { inputs, parameters = [], step = 0.02, seed = 1 }: GradientProblem,
  operands: readonly Float32Array<ArrayBuffer>[],
  i: number,
  gradient: Float32Array,
  dOutput: Float32Array,
  tolerance: number,
): Promise<number> {
  const what = `the gradient of ${[...inputs, ...parameters][i]!.name}`;
  let worst = 0;
  for (let k = 0; k < DIRECTIONS; k++) {
    const direction = signs(gradient.length, seed, `${i} ${k}`);
    const losses: number[] = [];
    for (const shift of [-2, -1, 1, 2]) {
      const moved = operands[i]!.map((x, n) => x + shift * step * direction[n]!);
      losses.push(dot(await runner.forward(operands.map((other, n) => (n === i ? moved : other))), dOutput));
    }
    const want = (losses[0]! - 8 * losses[1]! + 8 * losses[2]! - losses[3]!) / (12 * step);
    worst = Math.max(worst, expectAlong(gradient, direction, want, tolerance, `${what} along direction ${k}`));
  }
  return worst;
}

const signs = (size: number, seed: number, name: string): Float64Array =>
  Float64Array.from(uniformValues(size, 1, seed, `direction ${name}`), (u) => (u < 0 ? -1 : 1));

/** A gradient along a direction of signs is of the size of its norm, which the error is measured by. */
function expectAlong(
  gradient: Float32Array,
  direction: Float64Array,
  want: number,
  tolerance: number,
  what: string,
): number {
  const got = dot(gradient, direction);
  const error = got === want ? 0 : Math.abs(got - want) / Math.max(norm(gradient), Math.abs(want));
  expectThat(
    error <= tolerance,
    `${what}: ${got}, expected ${want} (relative error ${error.toExponential(2)}, allowed ${tolerance})`,
  );
  return error;
}

async function checkRules(
  runner: Runner,
  { inputs, parameters = [] }: GradientProblem,
  operands: readonly Float32Array<ArrayBuffer>[],
  draw: (size: number) => Float32Array,
  first: Pass,
  half: boolean,
): Promise<void> {
  const tolerance = half ? 2e-3 : 1e-5;
  for (const [i, { name }] of inputs.length > 1 ? inputs.entries() : []) {
    const alone = await runner.backward(
      operands,
      draw,
      inputs.map((_, k) => k === i),
      1,
    );
    expectThat(alone.inputs[i] !== undefined, `${name} alone needs a gradient and got none`);
    expectNear(alone.inputs[i], first.inputs[i]!, tolerance, `the gradient of ${name} where no other input needs one`);
  }
  const twice = await runner.backward(
    operands,
    draw,
    inputs.map(() => true),
    2,
  );
  for (const [i, { name }] of inputs.entries()) {
    const want = first.inputs[i]!.map((x) => 2 * x);
    expectNear(twice.inputs[i] ?? [], want, tolerance, `the gradient of ${name}, which two runs of the op read`);
  }
  for (const [i, { name }] of parameters.entries()) {
    const want = first.parameters[i]!.map((x) => 2 * x);
    expectNear(twice.parameters[i]!, want, tolerance, `the gradient of parameter ${name} after two runs of the op`);
  }
}
