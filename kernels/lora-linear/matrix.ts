/**
 * Linears that share an input, on subgroup matrices: weights are dequantized to f16 scratch, the low-rank update is part
 * of the same product, and the thin products of all branches read the input once.
 */
import type { LowRankBranch } from "../../core/compute/linear.ts";
import type { BackwardContext, Tape } from "../../core/compute/tape.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { dropoutScale, dropoutThreshold } from "../dropout/index.ts";
import {
  castHalf,
  dequantizeRows,
  dequantizeTransposed,
  gemmForward,
  gemmInputGradient,
  gemmSupports,
  loraDown,
  loraGradientA,
  loraGradientB,
  loraMaskedGradient,
  loraRankGradient,
  operandLayout,
  type OperandLayout,
  type LoraDropout,
  packWherePaid,
  paddedRank,
} from "../matmul-matrix/index.ts";
import type { LoraLinearAttrs, LoraLinearPart } from "./attrs.ts";

/** One branch and its columns in the group's U and dU. */
interface Member {
  readonly part: number;
  readonly branch: LowRankBranch;
  readonly column: number;
  readonly width: number;
  /** 1 / (1 - p) in training, else 1. */
  readonly keepScale: number;
}

/** Whether `matrixForward` and `matrixBackward` serve these linears; see `gemmRefusal` for the rule. */
export function matrixServes(gpu: Gpu, parts: readonly LoraLinearPart[]): boolean {
  return gpu.tier === "matrix" && parts.every(({ weight }) => gemmSupports(gpu, weight));
}

function membersOf({ parts, training }: LoraLinearAttrs): {
  readonly members: readonly Member[];
  readonly width: number;
} {
  const members: Member[] = [];
  let width = 0;
  parts.forEach(({ branch }, part) => {
    if (branch === undefined) return;
    const own = paddedRank(branch.a.shape[0]!);
    members.push({ part, branch, column: width, width: own, keepScale: training ? dropoutScale(branch.dropout) : 1 });
    width += own;
  });
  return { members, width };
}

function dropoutOf(members: readonly Member[], { training, rowKeys, seed }: LoraLinearAttrs): LoraDropout | undefined {
  if (!training || members.every(({ branch }) => dropoutThreshold(branch.dropout) === 0)) return undefined;
  return {
    rowKeys,
    seed,
    members: members.map(({ branch, width }) => ({ site: branch.site, p: branch.dropout, width })),
  };
}

/**
 * f16 copies of A of every member, side by side: aT [in, width], which the caller frees, and a [width, in], which the
 * tape keeps for backward; both divided by 1 - p.
 */
function copyA(
  tape: Tape,
  members: readonly Member[],
  width: number,
  layout: OperandLayout,
): { readonly a: Tensor; readonly aT: Tensor } {
  const { gpu } = tape;
  const columns = members[0]!.branch.a.shape[1]!;
  const a = tape.alloc([width, columns], "f16", "A");
  const aT = gpu.alloc([columns, width], "f16", "A transposed", "scratch");
  for (const { branch, column, width: own, keepScale } of members) {
    castHalf(gpu, branch.a.value, {
      scale: keepScale,
      padded: [own, columns],
      straight: { into: a, firstRow: column, layout },
      transposed: { into: aT, firstColumn: column },
    });
  }
  return { a, aT };
}

/** How A lies for the input gradient: under dropout it is no operand of the large product. */
function layoutOfA(
  gpu: Gpu,
  { parts }: LoraLinearAttrs,
  inFeatures: number,
  dropout: LoraDropout | undefined,
): OperandLayout {
  return dropout === undefined ? operandLayout(gpu, inFeatures, parts.length) : "rows";
}

/** f16 copies of a member's B, scaled and padded: bT [width, out], which the caller frees, and b [out, width]. */
function copyB(
  tape: Tape,
  { branch, width }: Member,
  layout: OperandLayout,
): { readonly b: Tensor; readonly bT: Tensor } {
  const { gpu } = tape;
  const rows = branch.b.shape[0]!;
  const b = tape.alloc([rows, width], "f16", "B");
  const bT = gpu.alloc([width, rows], "f16", "B transposed", "scratch");
  castHalf(gpu, branch.b.value, {
    scale: branch.scale,
    padded: [rows, width],
    straight: { into: b },
    transposed: { into: bT, layout },
  });
  return { b, bT };
}

/** What `matrixForward` gives: the outputs, and what backward reads (empty without branches): x, U, A, then each B. */
interface MatrixForward {
  readonly outputs: Tensor[];
  readonly saved: Tensor[];
}

/** y_i [N,out_i] f16 for every part. */
export function matrixForward(tape: Tape, x: Tensor, attrs: LoraLinearAttrs): MatrixForward {
  const { gpu } = tape;
  const [rows, inFeatures] = x.shape as readonly [number, number];
  const { members, width } = membersOf(attrs);
  const saved: Tensor[] = [];
  let u: Tensor | undefined;
  if (members.length > 0) {
    const dropout = dropoutOf(members, attrs);
    const { a, aT } = copyA(tape, members, width, layoutOfA(gpu, attrs, inFeatures, dropout));
    u = tape.alloc([rows, width], "f16", "low-rank inputs");
    loraDown(gpu, x, aT, u, dropout);
    gpu.free(aT);
    saved.push(x, u, a);
  }
  const packed = packWherePaid(
    gpu,
    x,
    attrs.parts.map(({ weight }) => weight.outFeatures),
  );
  const outputs = attrs.parts.map(({ weight }, part) => {
    const y = tape.alloc([rows, weight.outFeatures], "f16", weight.name);
    const wT = weight.transposed ?? gpu.alloc([inFeatures, weight.outFeatures], "f16", "W transposed", "scratch");
    const layout =
      weight.transposed === undefined ? operandLayout(gpu, weight.outFeatures) : (weight.transposedLayout ?? "rows");
    if (weight.transposed === undefined) dequantizeTransposed(gpu, weight, wT, { layout });
    const member = members.find((m) => m.part === part);
    if (member === undefined) gemmForward(gpu, x, wT, y, { layout, packed });
    else {
      const { b, bT } = copyB(tape, member, layout);
      gemmForward(gpu, x, wT, y, { layout, packed, lora: { u: u!, column: member.column, bT } });
      gpu.free(bT);
      saved.push(b);
    }
    if (weight.transposed === undefined) gpu.free(wT);
    return y;
  });
  if (packed !== undefined) gpu.free(packed);
  return { outputs, saved };
}

/** Adds the branches' gradients into their parameters and returns dX, where it is needed. */
export function matrixBackward(
  tape: Tape,
  { attrs, saved, dOutputs, needs, inputs }: BackwardContext<LoraLinearAttrs>,
): [Tensor | undefined] {
  const { gpu } = tape;
  const input = inputs[0]!;
  const rows = input.shape[0]!;
  const { members, width } = membersOf(attrs);
  const dropout = dropoutOf(members, attrs);
  const [x, u, a, ...bs] = saved as readonly [Tensor, Tensor, Tensor, ...Tensor[]];
  let dU: Tensor | undefined;
  if (members.length > 0) {
    dU = gpu.alloc([rows, width], "f16", "d(low-rank inputs)", "scratch");
    // A linear whose output nobody used has no gradient: its columns of dU must read as zero.
    if (members.some(({ part }) => dOutputs[part] === undefined)) gpu.clear(dU);
    for (const [i, { part, branch, column, width: own }] of members.entries()) {
      const dY = dOutputs[part];
      if (dY === undefined) continue;
      loraRankGradient(gpu, dY, bs[i]!, dU, column);
      loraGradientB(gpu, dY, u, branch.b.grad, { scale: branch.scale, column, width: own });
    }
    const grads = members.map((m) => ({ grad: m.branch.a.grad, width: m.width, scale: m.keepScale }));
    loraGradientA(gpu, x, dU, grads, dropout);
  }
  const dX = needs[0] === true ? tape.like(input) : undefined;
  if (dX !== undefined) inputGradient(gpu, attrs, dOutputs, dX, dropout, dU, a);
  if (dU !== undefined) gpu.free(dU);
  return [dX];
}

function inputGradient(
  gpu: Gpu,
  { parts }: LoraLinearAttrs,
  dOutputs: readonly (Tensor | undefined)[],
  dX: Tensor,
  dropout: LoraDropout | undefined,
  dU: Tensor | undefined,
  a: Tensor | undefined,
): void {
  const layout = operandLayout(gpu, dX.shape[1]!, parts.length);
  const linears = parts.flatMap(({ weight }, i) => {
    const dY = dOutputs[i];
    if (dY === undefined) return [];
    const w = gpu.alloc([weight.outFeatures, weight.inFeatures], "f16", "W", "scratch");
    dequantizeRows(gpu, weight, w, { layout });
    return [{ dY, w }];
  });
  // The gradient of a wide input of one linear (down's) reads dY often enough.
  const [only, ...others] = linears;
  const packed = only !== undefined && others.length === 0 ? packWherePaid(gpu, only.dY, [dX.shape[1]!]) : undefined;
  // Each branch drops other elements, so with dropout their sum is formed first and the frozen products are added.
  const masked = dropout !== undefined && dU !== undefined && a !== undefined;
  if (masked) loraMaskedGradient(gpu, dU, a, dX, dropout);
  const lora = !masked && dU !== undefined && a !== undefined ? { dU, a } : undefined;
  const packedLinears = packed === undefined ? linears : linears.map((linear) => ({ ...linear, packed }));
  gemmInputGradient(gpu, packedLinears, dX, { layout, accumulate: masked, lora });
  for (const { w } of linears) gpu.free(w);
  if (packed !== undefined) gpu.free(packed);
}
