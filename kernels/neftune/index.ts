import type { Batch } from "../../core/compute/batch.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, matrixShape, type Tensor } from "../../core/device/tensor.ts";
import { dropoutSource } from "../dropout/generator.ts";
import code from "./neftune.wgsl" with { type: "text" };

/** Where it stands among the draws of dropout, whose sites are counted from 0. */
export const NEFTUNE_SITE = 0xffffffff;

/** What the noise is drawn from. */
export interface NeftuneOptions {
  /** Size: noise is uniform in alpha / sqrt(L C) either way. */
  readonly alpha: number;
  readonly seed: number;
}

/**
 * NEFTune noise on embeddings h [N,C] f32, in place: uniform in alpha / sqrt(L C) either way, as transformers' `neftune_noise_alpha`
 * has it; L is the length of the row's sample, for there is no padding here. A token's noise depends on the step, its sample and its
 * position alone.
 */
export function neftune(
  gpu: Gpu,
  h: Tensor,
  { rowKeys, segments }: Pick<Batch, "rowKeys" | "segments">,
  { alpha, seed }: NeftuneOptions,
): void {
  expectTensor(h, [-1, -1], "f32");
  const [rows, columns] = matrixShape(h);
  expectTensor(rowKeys, [rows], "u32");
  expectTensor(segments, [rows, 2], "u32");
  const kernel = gpu.kernel("neftune", () => ({
    code: `const SITE = ${NEFTUNE_SITE}u;\n${dropoutSource}${code}`,
    bindings: ["read", "read", "write"],
    uniforms: { rows: "u32", columns: "u32", seed: "u32", alpha: "f32" },
  }));
  gpu.dispatch(
    kernel,
    [rowKeys, segments, h],
    { rows, columns, seed, alpha },
    gridFor((rows * Math.ceil(columns / 4)) / 256),
  );
}
