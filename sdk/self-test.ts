/** A few kernels on fixed numbers against their f64 references: what `qlora doctor` runs. */
import { Tape } from "../core/compute/tape.ts";
import type { Gpu } from "../core/device/gpu.ts";
import { normalValues } from "../core/util/random.ts";
import { crossEntropy } from "../kernels/cross-entropy/index.ts";
import { crossEntropyReference, oneHot } from "../kernels/cross-entropy/reference.ts";
import { rmsNorm } from "../kernels/rms-norm/index.ts";
import { rmsNormReference } from "../kernels/rms-norm/reference.ts";

/** Largest |got - want| over the largest |want|. */
function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < want.length; i++) {
    // Math.max keeps NaN, so a kernel that gives NaN fails.
    difference = Math.max(difference, Math.abs(got[i]! - want[i]!));
    scale = Math.max(scale, Math.abs(want[i]!));
  }
  return difference / scale;
}

/** Runs the self-tests. */
export async function selfTest(gpu: Gpu): Promise<SelfTest[]> {
  const [rows, columns] = [37, 96];
  const x = normalValues(rows * columns, 1, 1, "x");
  const w = normalValues(columns, 1, 1, "w");
  const tape = new Tape(gpu, { recording: false });
  const input = gpu.upload(x, [rows, columns], "f32", "x");
  const weight = gpu.upload(w, [columns], "f32", "w");
  const normed = await gpu.readFloats(rmsNorm(tape, input, weight, { eps: 1e-6, offset: 1 }));
  const labels = Uint32Array.from({ length: rows }, (_, i) => i % columns);
  const classes = gpu.upload(labels, [rows], "u32", "labels");
  const losses = await gpu.readFloats(crossEntropy(tape, input, classes));
  tape.close();
  for (const tensor of [input, weight, classes]) gpu.free(tensor);
  const half = gpu.computeDtype === "f16" ? 2 ** -10 : 1e-5;
  return [
    { name: "rms-norm", error: relativeError(normed, rmsNormReference(x, w, 1e-6, 1)), tolerance: half },
    {
      name: "cross-entropy",
      error: relativeError(losses, crossEntropyReference(x, oneHot(labels, columns), columns)),
      tolerance: 1e-5,
    },
  ];
}

/** One small kernel against its reference. */
export interface SelfTest {
  readonly name: string;
  /** Largest relative error. */
  readonly error: number;
  readonly tolerance: number;
}
