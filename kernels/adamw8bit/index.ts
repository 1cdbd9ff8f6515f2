import type { Slab } from "../../core/compute/parameters.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { type AdamWScalars, adamWUniforms } from "../adamw/index.ts";
import code from "./adamw8bit.wgsl" with { type: "text" };

/** Elements that share an absmax. */
export const ADAMW8BIT_BLOCK_SIZE = 256;

/** Entry of the block table for a block with 8-bit state; any other entry is its place among the exact blocks. */
export const ADAMW8BIT_QUANTIZED = 0xffffffff;

/** 8-bit AdamW's state of one slab. A slab has `size / 256` blocks, of which `E` (at least 1) keep f32 moments. */
export interface AdamW8bitState {
  /** [2, size/4] u32: codes of the first moments in the signed map, then of the second in the unsigned; four to a word. */
  readonly codes: Tensor;
  /** [2, size/256] f32. */
  readonly absmax: Tensor;
  /** [2, E, 256] f32: first and second moments of the exact blocks. */
  readonly exact: Tensor;
  /** [512 + size/256] u32: bits of the signed and the unsigned map, then the block table. */
  readonly tables: Tensor;
  /** [1] u32: number of the last update that was applied, whatever slab it was for. */
  readonly applied: Tensor;
}

/**
 * AdamW in place over a slab with blockwise 8-bit state (bitsandbytes `kOptimizerStatic8bit2StateBlockwise`, block 256):
 * the update of `adamWStep`, from moments decoded as code * absmax; the parameter moves by the new moments before they
 * are quantized. A new code is the nearest, ties to the even index, and a first moment never changes its sign.
 * Blocks that the table marks as exact keep f32 moments. Does nothing where gradState[FOUND_INF] is not 0; an element whose
 * gradient is not finite keeps its value and its moments become 0.
 * @param gradState [4] f32, see `gradNorm`
 * @throws RangeError for a tensor of another shape
 */
export function adamW8bitStep(
  gpu: Gpu,
  slab: Slab,
  state: AdamW8bitState,
  gradState: Tensor,
  scalars: AdamWScalars,
): void {
  const blocks = slab.size / ADAMW8BIT_BLOCK_SIZE;
  for (const tensor of [slab.value, slab.grad]) expectTensor(tensor, [slab.size], "f32");
  expectTensor(state.codes, [2, slab.size / 4], "u32");
  expectTensor(state.absmax, [2, blocks], "f32");
  expectTensor(state.exact, [2, -1, ADAMW8BIT_BLOCK_SIZE], "f32");
  expectTensor(state.tables, [512 + blocks], "u32");
  expectTensor(state.applied, [1], "u32");
  expectTensor(gradState, [4], "f32");
  const kernel = gpu.kernel("adamw8bit", () => ({
    code,
    bindings: ["write", "read", "write", "write", "write", "read", "read", "write"],
    uniforms: { blocks: "u32", exactBlocks: "u32", ...adamWUniforms },
    constants: { EIGHT_BIT: ADAMW8BIT_QUANTIZED },
  }));
  gpu.dispatch(
    kernel,
    [slab.value, slab.grad, state.codes, state.absmax, state.exact, state.tables, gradState, state.applied],
    { blocks, exactBlocks: state.exact.shape[1]!, ...scalars },
    gridFor(blocks),
  );
}
