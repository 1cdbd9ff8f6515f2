import { createDynamicMap, nearestCode } from "../../core/formats/dynamic-map.ts";
import type { AdamWOptions } from "../adamw/index.ts";
import { moments, updated } from "../adamw/reference.ts";
import { ADAMW8BIT_BLOCK_SIZE } from "./index.ts";

const map1 = createDynamicMap(true);
const map2 = createDynamicMap(false);

/** Parameters and 8-bit state of one tensor, updated in place. */
export interface AdamW8bitReferenceState {
  readonly value: Float64Array;
  readonly codes1: Uint8Array;
  readonly codes2: Uint8Array;
  /** [ceil(n/256)]. */
  readonly absmax1: Float32Array;
  readonly absmax2: Float32Array;
}

/** A fresh state around `value`: everything zero, as bitsandbytes starts. */
export function freshReferenceState(value: ArrayLike<number>): AdamW8bitReferenceState {
  const blocks = Math.ceil(value.length / ADAMW8BIT_BLOCK_SIZE);
  return {
    value: Float64Array.from(value),
    codes1: new Uint8Array(value.length),
    codes2: new Uint8Array(value.length),
    absmax1: new Float32Array(blocks),
    absmax2: new Float32Array(blocks),
  };
}

const negative = (x: number): boolean => x < 0 || Object.is(x, -0);

/** Code of a first moment: the nearest, moved off where it has another sign than the moment. */
function signedCode(m: number, absmax: number): number {
  if (absmax === 0) return nearestCode(map1, 0);
  const code = nearestCode(map1, Math.fround(m / absmax));
  if (negative(map1[code]!) === negative(m)) return code;
  return (code + (m > 0 ? 1 : -1)) & 255;
}

/** One blockwise 8-bit AdamW update, moments in f64 and absmax in f32; `grad` is already unscaled and clipped. */
export function adamW8bitReference(
  state: AdamW8bitReferenceState,
  grad: ArrayLike<number>,
  options: AdamWOptions,
  lr: number,
  t: number,
): void {
  const { value, codes1, codes2, absmax1, absmax2 } = state;
  for (let block = 0; block < absmax1.length; block++) {
    const begin = block * ADAMW8BIT_BLOCK_SIZE;
    const length = Math.min(ADAMW8BIT_BLOCK_SIZE, value.length - begin);
    const fresh = Array.from({ length }, (_, k) =>
      moments(
        options,
        map1[codes1[begin + k]!]! * absmax1[block]!,
        map2[codes2[begin + k]!]! * absmax2[block]!,
        grad[begin + k]!,
      ),
    );
    const peak1 = Math.fround(Math.max(...fresh.map(([m]) => Math.abs(m))));
    const peak2 = Math.fround(Math.max(...fresh.map(([, v]) => v)));
    absmax1[block] = peak1;
    absmax2[block] = peak2;
    for (const [k, [m, v]] of fresh.entries()) {
      const i = begin + k;
      if (Number.isFinite(grad[i]!)) value[i] = updated(options, lr, t, value[i]!, m, v);
      codes1[i] = signedCode(m, peak1);
      codes2[i] = nearestCode(map2, peak2 === 0 ? 0 : Math.fround(v / peak2));
    }
  }
}
