import { expectTensor, type Gpu, gridFor, type Slab, type Tensor } from "qlora/core";
import applyCode from "./apply.wgsl" with { type: "text" };
import bf16Code from "./bf16.wgsl" with { type: "text" };
import type { Chunk } from "./chunks.ts";
import { orthogonalize } from "./orthogonalize.ts";
import prepareCode from "./prepare.wgsl" with { type: "text" };

/** Muon's constants, as torch.optim.Muon has them. */
export interface MuonOptions {
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  readonly nsSteps: number;
  readonly eps: number;
  readonly adjustLrFn: "original" | "match_rms_adamw";
}

/** State and tables of a slab of matrices on the GPU. */
export interface MuonState {
  readonly chunks: readonly Chunk[];
  /** [matrices] u32, see `chunksOf`. */
  readonly starts: Tensor;
  /** [size] f32. */
  readonly momentum: Tensor;
}

/** Learning rate of a matrix, which evens out the size of updates over shapes. */
function stepSize(learningRate: number, { rows, columns }: Chunk, adjust: MuonOptions["adjustLrFn"]): number {
  const ratio =
    adjust === "original" ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns));
  return learningRate * ratio;
}

/**
 * Muon in place over a slab of matrices, g = grad * gradState[CLIP_COEF], as torch.optim.Muon: m += (1 - momentum) (g - m);
 * u = orthogonalize(nesterov ? g + momentum (m - g) : m); p *= 1 - lr * weightDecay; p -= lr * ratio * u.
 * Does nothing where gradState[FOUND_INF] is not 0; a gradient that is not finite counts as 0.
 * Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025 (arXiv 2502.16982).
 */
export function muonStep(
  gpu: Gpu,
  slab: Slab,
  { chunks, starts, momentum }: MuonState,
  gradState: Tensor,
  options: MuonOptions,
  learningRate: number,
): void {
  for (const tensor of [slab.value, slab.grad, momentum]) expectTensor(tensor, [slab.size], "f32");
  expectTensor(gradState, [4], "f32");
  const prepare = gpu.kernel("muon/prepare", () => ({
    code: bf16Code + prepareCode,
    bindings: ["write", "write", "read", "read", "read"],
    uniforms: { rows: "u32", columns: "u32", matrices: "u32", first: "u32", share: "f32", nesterov: "u32" },
  }));
  const apply = gpu.kernel("muon/apply", () => ({
    code: applyCode,
    bindings: ["write", "read", "read", "read"],
    uniforms: { rows: "u32", columns: "u32", matrices: "u32", first: "u32", decay: "f32", stepSize: "f32" },
  }));
  const share = 1 - options.momentum;
  const nesterov = options.nesterov ? 1 : 0;
  const decay = 1 - learningRate * options.weightDecay;
  for (const chunk of chunks) {
    const { rows, columns, matrices } = chunk;
    const shape = [matrices, Math.min(rows, columns), Math.max(rows, columns)];
    const x = gpu.alloc(shape, "f32", "muon update", "scratch");
    const spare = gpu.alloc(shape, "f32", "muon next update", "scratch");
    const grid = gridFor((matrices * rows * columns) / 256);
    gpu.dispatch(prepare, [momentum, x, slab.grad, starts, gradState], { ...chunk, share, nesterov }, grid);
    const update = orthogonalize(gpu, x, spare, options.nsSteps, options.eps);
    const size = stepSize(learningRate, chunk, options.adjustLrFn);
    gpu.dispatch(apply, [slab.value, update, starts, gradState], { ...chunk, decay, stepSize: size }, grid);
    gpu.free(x);
    gpu.free(spare);
  }
}
