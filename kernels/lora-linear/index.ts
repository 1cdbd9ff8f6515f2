/** Linears that share an input: frozen NF4 products with low-rank branches beside them. */
import type { Batch } from "../../core/compute/batch.ts";
import type { AdaptedLinear, FrozenWeight, LowRankBranch } from "../../core/compute/linear.ts";
import type { BackwardContext, Op, Tape } from "../../core/compute/tape.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { addBias } from "../add/index.ts";
import { matmulNN, matmulNT, matmulTN, type OperandDropout } from "../matmul/index.ts";
import type { LoraLinearPart, LoraLinearOptions, LoraLinearAttrs } from "./attrs.ts";
import { matrixBackward, matrixForward, matrixServes } from "./matrix.ts";
import { frozenForward, frozenInputGradient } from "./portable.ts";

/** Where the mask of a branch falls on this product. */
function maskOn(
  on: OperandDropout["on"],
  { dropout, site }: LowRankBranch,
  { training, rowKeys, seed }: LoraLinearOptions,
): OperandDropout | undefined {
  return training ? { on, rowKeys, seed, site, p: dropout } : undefined;
}

/** Gradients of one branch: its parameters', and its share of dX where that is wanted. */
function branchBackward(
  tape: Tape,
  branch: LowRankBranch,
  attrs: LoraLinearAttrs,
  x: Tensor,
  u: Tensor,
  dY: Tensor,
  dX: Tensor | undefined,
): void {
  const { gpu } = tape;
  const { a, b, scale } = branch;
  const dU = tape.like(u);
  matmulNN(gpu, dY, b.value, dU, { scale });
  matmulTN(gpu, dY, u, b.grad, { scale, accumulate: true });
  matmulTN(gpu, dU, x, a.grad, { accumulate: true, dropout: maskOn("b", branch, attrs) });
  if (dX !== undefined) matmulNN(gpu, dU, a.value, dX, { accumulate: true, dropout: maskOn("c", branch, attrs) });
  tape.release(dU);
}

const op: Op<LoraLinearAttrs> = {
  name: "loraLinears",

  forward(tape, [input], attrs) {
    const { gpu } = tape;
    const x = input!;
    if (matrixServes(gpu, attrs.parts)) return matrixForward(tape, x, attrs);
    const kept: Tensor[] = [];
    const outputs = attrs.parts.map(({ weight, branch }) => {
      const y = tape.alloc([x.shape[0]!, weight.outFeatures], gpu.computeDtype, weight.name);
      frozenForward(gpu, x, weight, y);
      if (branch === undefined) return y;
      const u = tape.alloc([x.shape[0]!, branch.a.shape[0]!], gpu.computeDtype, `${weight.name} rank`);
      matmulNT(gpu, x, branch.a.value, u, { dropout: maskOn("a", branch, attrs) });
      matmulNT(gpu, u, branch.b.value, y, { scale: branch.scale, accumulate: true });
      kept.push(u);
      return y;
    });
    // [N,R] is small beside [N,in]: u is kept rather than computed again.
    return { outputs, saved: kept.length === 0 ? [] : [x, ...kept] };
  },

  backward(tape, context: BackwardContext<LoraLinearAttrs>) {
    const { attrs, saved, dOutputs, needs, existing, inputs } = context;
    if (matrixServes(tape.gpu, attrs.parts)) return matrixBackward(tape, context);
    const dX = needs[0] === true ? (existing[0] ?? tape.like(inputs[0]!)) : undefined;
    let accumulate = existing[0] !== undefined;
    const [x, ...us] = saved;
    attrs.parts.forEach(({ weight, branch }, i) => {
      const u = branch === undefined ? undefined : us.shift();
      const dY = dOutputs[i];
      if (dY === undefined) return;
      if (dX !== undefined) {
        frozenInputGradient(tape.gpu, dY, weight, dX, { accumulate });
        accumulate = true;
      }
      if (branch !== undefined) branchBackward(tape, branch, attrs, x!, u!, dY, dX);
    });
    return [dX];
  },

  trains: ({ parts }) => parts.some(({ branch }) => branch !== undefined),
};

/**
 * y_i = x W_i^T + scale_i * B_i(A_i(dropout(x))) for every part: x [N,in] -> [N,out_i], all in the tier's operand type.
 * The gradients of A_i and B_i are added into their parameters; dropout draws the same mask again in backward.
 * @throws RangeError where x, the weights and the branches do not fit together
 */
export function loraLinears(
  tape: Tape,
  x: Tensor,
  parts: readonly LoraLinearPart[],
  options: LoraLinearOptions,
): Tensor[] {
  expectTensor(x, [-1, -1], tape.gpu.computeDtype);
  expectTensor(options.rowKeys, [x.shape[0]!], "u32");
  for (const { weight, branch } of parts) {
    expectTensor(x, [-1, weight.inFeatures]);
    if (branch === undefined) continue;
    expectTensor(branch.a.value, [-1, weight.inFeatures], "f32");
    expectTensor(branch.b.value, [weight.outFeatures, branch.a.shape[0]!], "f32");
  }
  return [...tape.run(op, [x], { ...options, parts })];
}

/**
 * Linears that share their input, each with its adapter: x [N,in] -> y_i [N,out_i] in the tier's operand type. Those with a
 * low-rank branch or none run as one op; an adapter with a forward of its own runs by itself.
 */
export function adaptedLinears(
  tape: Tape,
  x: Tensor,
  linears: readonly AdaptedLinear[],
  batch: Batch,
  options: { readonly training: boolean; readonly seed: number },
): Tensor[] {
  const biased = (y: Tensor, { bias }: FrozenWeight): Tensor => {
    if (bias === undefined) return y;
    const sum = addBias(tape, y, bias);
    tape.release(y);
    return sum;
  };
  const settings = { rowKeys: batch.rowKeys, ...options };
  const parts: LoraLinearPart[] = linears
    .filter((l) => l.forward === undefined)
    .map(({ weight, branch }) => ({ weight, branch }));
  const shared = parts.length === 0 ? [] : [...loraLinears(tape, x, parts, settings)];
  return linears.map(({ weight, forward }) => {
    if (forward === undefined) return biased(shared.shift()!, weight);
    const base = (input: Tensor): Tensor => biased(loraLinears(tape, input, [{ weight }], settings)[0]!, weight);
    return forward(tape, x, base, batch, options);
  });
}
