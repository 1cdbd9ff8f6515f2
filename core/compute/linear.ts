import type { Tensor } from "../device/tensor.ts";
import type { Batch } from "./batch.ts";
import type { Parameter } from "./parameters.ts";
import type { Tape } from "./tape.ts";

/** A linear layer that an adapter may wrap, by its Hugging Face name. */
export interface LinearSpec {
  /** E.g. `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly layer: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

/** A frozen NF4 weight on the GPU, packed as bitsandbytes packs it. */
export interface Nf4Weight {
  readonly kind: "nf4";
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** u32 [ceil(out*in/8)]: bytes of bitsandbytes in order; the high nibble of a byte comes first. */
  readonly codes: Tensor;
  /**
   * Scale of each block of 64 flattened weights. Double-quantized: u32 words of four u8 codes, little-endian.
   * Otherwise f32.
   */
  readonly absmax: Tensor;
  /** Double quantization: f32 [256 + ceil(blocks/256)], the 8-bit map and then the nested absmax; else undefined. */
  readonly nested: Tensor | undefined;
  /** Double quantization: added to every restored absmax; 0 without. */
  readonly nestedOffset: number;
  /** Type that a dequantized weight is rounded to before use (`quant_state.dtype`). */
  readonly rounding: "bf16" | "f16" | "f32";
  /** [in,out] f16: a copy kept for forward passes in tier `matrix`, where memory allows; else it is made each time. */
  readonly transposed?: Tensor | undefined;
  /** How that copy lies: row by row (the default), or in the tiles that products on this device read fastest. */
  readonly transposedLayout?: "rows" | "image" | undefined;
  /** [out] f32, frozen: the linear's bias. `adaptedLinears` adds it; products alone do not know of it. */
  readonly bias?: Tensor | undefined;
}

/** A low-rank branch beside a linear: y += scale * B(A(dropout(x))). */
export interface LowRankBranch {
  /** [R,in] f32. */
  readonly a: Parameter;
  /** [out,R] f32. */
  readonly b: Parameter;
  /** alpha / R. */
  readonly scale: number;
  /** Probability that an input element is dropped in training; kept ones are divided by 1 - dropout. */
  readonly dropout: number;
  /** Number of this branch, which keeps the dropout masks of different linears apart. */
  readonly site: number;
}

/** A linear after the adapter has seen it. */
export interface AdaptedLinear {
  readonly spec: LinearSpec;
  readonly weight: Nf4Weight;
  /** The common case, which kernels fuse with the base product. */
  readonly branch?: LowRankBranch | undefined;
  /**
   * Any other adapter: the whole linear. `base(x)` runs the frozen linear, bias included. Dropout is on in training only.
   * @returns y [N,out] in the tier's operand type
   */
  readonly forward?:
    | ((
        tape: Tape,
        x: Tensor,
        base: (x: Tensor) => Tensor,
        batch: Batch,
        options: { readonly training: boolean; readonly seed: number },
      ) => Tensor)
    | undefined;
}

/** Whether anything of an adapted linear trains. */
export function isTrainable(linear: AdaptedLinear): boolean {
  return linear.branch !== undefined || linear.forward !== undefined;
}
