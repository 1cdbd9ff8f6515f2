import type { Batch } from "../../core/compute/batch.ts";
import { type Block, runBlocks, type ForwardOptions } from "../../core/compute/blocks.ts";
import type { Tape } from "../../core/compute/tape.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { lastToken } from "./index.ts";

/** A block that can give the last rows alone: [N,C] f32 -> [N,C], or [B,C] where `pooled`. */
export interface PooledBlock {
  /** Whether any of its linears trains. */
  readonly trains: boolean;
  forward(tape: Tape, h: Tensor, pooled: boolean): Tensor;
}

/**
 * Runs blocks as `runBlocks` does and gives the rows of the last tokens: residual stream [N,C] f32 -> [B,C] f32, which the
 * caller releases. The last block runs for these rows alone, unless `onHidden` wants to see all of its output: the same
 * numbers, without the products of rows that nobody reads.
 * @param embedded the embedding's output [N,C] f32; released when the first block has read it
 */
export function runPooledBlocks(
  tape: Tape,
  embedded: Tensor,
  blocks: readonly PooledBlock[],
  batch: Batch,
  options: ForwardOptions,
): Tensor {
  const pooled = options.onHidden === undefined && blocks.length > 0;
  const body = blocks.map((block, i): Block => {
    const last = pooled && i === blocks.length - 1;
    return { trains: block.trains, forward: (inner, h) => block.forward(inner, h, last) };
  });
  const h = runBlocks(tape, embedded, body, options);
  if (pooled) return h;
  const rows = lastToken(tape, h, batch.lastTokens);
  tape.release(h);
  return rows;
}
