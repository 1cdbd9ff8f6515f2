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

/** What every frozen weight on the GPU has. */
interface WeightBase {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** [in,out] f16: a copy kept for forward passes in tier `matrix`, where memory allows; else it is made each time. */
  readonly transposed?: Tensor | undefined;
  /** How that copy lies: row by row (the default), or in the tiles that products on this device read fastest. */
  readonly transposedLayout?: "rows" | "image" | undefined;
  /** [out] f32, frozen: the linear's bias. `adaptedLinears` adds it; products alone do not know of it. */
  readonly bias?: Tensor | undefined;
}

/** A frozen 4-bit weight on the GPU, packed as bitsandbytes packs it. */
export interface QuantizedWeight extends WeightBase {
  readonly kind: "nf4" | "fp4";
  /** Flattened weights that share a scale: 64, 128, 256 ... 4096. */
  readonly blockSize: number;
  /** u32 [ceil(out*in/8)]: bytes of bitsandbytes in order; the high nibble of a byte comes first. */
  readonly codes: Tensor;
  /** Scale of each block. Double-quantized: u32 words of four u8 codes, little-endian. Otherwise f32. */
  readonly absmax: Tensor;
  /**
   * Double quantization: f32 [257 + ceil(blocks/256)], the 8-bit map, what is added to every restored absmax, and the nested
   * absmax; else undefined.
   */
  readonly nested: Tensor | undefined;
  /** Type that a dequantized weight is rounded to before use (`quant_state.dtype`). */
  readonly rounding: "bf16" | "f16" | "f32";
}

/** A frozen weight on the GPU that is not quantized. */
export interface DenseWeight extends WeightBase {
  readonly kind: "dense";
  /** [out,in] bf16, f16 or f32, as the checkpoint stores it. Kernels read it as u32 words, whatever the tier. */
  readonly values: Tensor;
}

/** A linear's frozen weight on the GPU. */
export type FrozenWeight = QuantizedWeight | DenseWeight;

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
  readonly weight: FrozenWeight;
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
