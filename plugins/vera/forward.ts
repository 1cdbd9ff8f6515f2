import { type AdaptedLinear, expectTensor, type Op, type Parameter, type Tape, type Tensor } from "qlora/core";
import { addScaled, dropout, matmulNN, matmulNT, scaleColumns } from "qlora/kernels";

/** What VeRA has of one linear. */
export interface VeraBranch {
  /** [in,R] f32, frozen: the rows of A, transposed, that this linear reads. */
  readonly a: Tensor;
  /** [out,R] f32, frozen: its rows of B. */
  readonly b: Tensor;
  /** [R] f32. */
  readonly lambdaD: Parameter;
  /** [out] f32. */
  readonly lambdaB: Parameter;
  /** Probability that an input element is dropped in training. */
  readonly dropout: number;
  /** Number of this linear, which keeps dropout masks apart. */
  readonly site: number;
}

/** Which side of a frozen matrix the rows of x meet. */
interface ProductAttrs {
  readonly weight: Tensor;
  readonly transposed: boolean;
}

const frozenProduct: Op<ProductAttrs> = {
  name: "veraProjection",
  forward(tape, [x], { weight, transposed }) {
    const columns = weight.shape[transposed ? 0 : 1]!;
    const y = tape.alloc([x!.shape[0]!, columns], tape.gpu.computeDtype, weight.label);
    (transposed ? matmulNT : matmulNN)(tape.gpu, x!, weight, y);
    return { outputs: [y] };
  },
  backward(tape, { attrs: { weight, transposed }, inputs, dOutputs, needs, existing }) {
    if (needs[0] !== true) return [undefined];
    const dX = existing[0] ?? tape.like(inputs[0]!);
    const options = { accumulate: existing[0] !== undefined };
    (transposed ? matmulNN : matmulNT)(tape.gpu, dOutputs[0]!, weight, dX, options);
    return [dX];
  },
};

/** y = x W, or x W^T where it is transposed: x [N,K] in the tier's operand type, W f32 and frozen. */
function project(tape: Tape, x: Tensor, weight: Tensor, transposed: boolean): Tensor {
  expectTensor(weight, transposed ? [-1, x.shape[1]!] : [x.shape[1]!, -1], "f32");
  return tape.run(frozenProduct, [x], { weight, transposed })[0]!;
}

/** y = W x + lambda_b * (B (lambda_d * (A dropout(x)))), the bias of W included. */
export function veraForward(branch: VeraBranch): NonNullable<AdaptedLinear["forward"]> {
  const { a, b, lambdaD, lambdaB, dropout: p, site } = branch;
  return (tape, x, base, { rowKeys }, { training, seed }) => {
    const dropped = training ? dropout(tape, x, { rowKeys, site, seed, p }) : x;
    const low = project(tape, dropped, a, false);
    if (dropped !== x) tape.release(dropped);
    const scaled = scaleColumns(tape, low, lambdaD);
    tape.release(low);
    const wide = project(tape, scaled, b, true);
    tape.release(scaled);
    const update = scaleColumns(tape, wide, lambdaB);
    tape.release(wide);
    const frozen = base(x);
    const y = addScaled(tape, frozen, update, 1);
    tape.release(frozen, update);
    return y;
  };
}
