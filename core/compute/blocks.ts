import type { Tensor } from "../device/tensor.ts";
import type { Tape } from "./tape.ts";

/** One block of a model. */
export interface Block {
  /** Whether any of its linears trains. */
  readonly trains: boolean;
  /** Residual stream h [N,C] f32 -> [N,C] f32, recorded on the tape. */
  forward(tape: Tape, h: Tensor): Tensor;
}

/**
 * Runs blocks one after the other: residual stream [N,C] f32 -> [N,C] f32, which the caller releases.
 * @param embedded the embedding's output [N,C] f32; released when the first block has read it
 * @example
 * const embedded = tape.alloc([3, 8], "f32", "hidden states");
 * gpu.clear(embedded);
 * const twice = { trains: false, forward: (inner: Tape, h: Tensor) => addResidual(inner, h, h) };
 * const h = runBlocks(tape, embedded, [twice, twice], { checkpointing: "none", training: false });
 * tape.release(h);
 */
export function runBlocks(
  tape: Tape,
  embedded: Tensor,
  blocks: readonly Block[],
  { checkpointing, onHidden }: ForwardOptions,
): Tensor {
  let h = embedded;
  onHidden?.(h);
  for (const [index, block] of blocks.entries()) {
    tape.startBlock(index, h);
    const body = (inner: Tape, [input]: readonly Tensor[]): [Tensor] => [block.forward(inner, input!)];
    // A block that neither trains nor needs its input's gradient records nothing; replaying it would be waste.
    const replay = isCheckpointed(checkpointing, index) && (block.trains || tape.needsGradient(h));
    const [next] = replay ? tape.checkpoint("block", [h], body) : tape.scope(() => body(tape, [h]));
    tape.release(h);
    h = next!;
    onHidden?.(h);
  }
  return h;
}

/** Whether block `index` (0 is the first) runs again in backward. */
function isCheckpointed(checkpointing: Checkpointing, index: number): boolean {
  return checkpointing === "block" || (checkpointing !== "none" && index < checkpointing);
}

/**
 * Which blocks keep only their input and run again in backward: none, every `block`, or so many of the first ones (backward
 * comes to them last, when the others have given their memory back). Gradients are the same, to the bit.
 */
export type Checkpointing = "none" | "block" | number;

/** How a forward pass is run. */
export interface ForwardOptions {
  readonly checkpointing: Checkpointing;
  /** Dropout is on in training only. */
  readonly training: boolean;
  /** Called with the embedding's output and each block's, [N,C] f32, as they are encoded; copy what you want to read. */
  readonly onHidden?: ((hidden: Tensor) => void) | undefined;
}
