/** Products with a frozen weight: rows are brought to the operand type in a scratch buffer, then multiplied by the plain kernels. */
import type { FrozenWeight } from "../../core/compute/linear.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { bytesPerElement, expectTensor, type Tensor } from "../../core/device/tensor.ts";
import { DeviceError } from "../../core/errors.ts";
import { matmulNN, matmulNT } from "../matmul/index.ts";
import { dequantize } from "../nf4/index.ts";

/**
 * Calls `use` with W's rows in the tier's operand type: all of them, or parts of a multiple of eight rows where one
 * binding cannot hold them.
 */
function withDequantized(
  gpu: Gpu,
  weight: FrozenWeight,
  rowLimit: number,
  use: (rows: Tensor, firstRow: number) => void,
): void {
  const { outFeatures, inFeatures } = weight;
  if (weight.kind === "dense" && weight.values.dtype === gpu.computeDtype && rowLimit >= outFeatures) {
    use(weight.values, 0);
    return;
  }
  const fitting = Math.floor(
    gpu.device.limits.maxStorageBufferBindingSize / (inFeatures * bytesPerElement(gpu.computeDtype)),
  );
  const limit = Math.min(rowLimit, fitting);
  if (limit < outFeatures && (limit < 8 || outFeatures % 4 !== 0)) {
    throw new DeviceError(
      "BINDING_TOO_LARGE",
      `${weight.name} [${outFeatures},${inFeatures}] ${gpu.computeDtype} does not fit into one binding of this adapter (${gpu.device.limits.maxStorageBufferBindingSize} bytes) and cannot be cut into parts of eight rows`,
      { hint: "Use a device with larger bindings." },
    );
  }
  const step = limit < outFeatures ? limit - (limit % 8) : outFeatures;
  for (let first = 0; first < outFeatures; first += step) {
    const rows = gpu.alloc(
      [Math.min(step, outFeatures - first), inFeatures],
      gpu.computeDtype,
      `dequantized ${weight.name}`,
      "scratch",
    );
    dequantize(gpu, weight, rows, first);
    use(rows, first);
    gpu.free(rows);
  }
}

export interface FrozenOptions {
  /** Most rows of W that are dequantized at a time; default: what one binding holds. */
  readonly rowLimit?: number;
}

/** y [N,out] = x [N,in] W^T, both in the tier's operand type; f32 accumulation. */
export function frozenForward(
  gpu: Gpu,
  x: Tensor,
  weight: FrozenWeight,
  y: Tensor,
  { rowLimit = Infinity }: FrozenOptions = {},
): void {
  expectTensor(x, [-1, weight.inFeatures], gpu.computeDtype);
  expectTensor(y, [x.shape[0]!, weight.outFeatures], gpu.computeDtype);
  withDequantized(gpu, weight, rowLimit, (rows, first) => matmulNT(gpu, x, rows, y, { cColumn: first }));
}

export interface FrozenGradientOptions extends FrozenOptions {
  /** Adds to what dX holds. Default false. */
  readonly accumulate?: boolean;
}

/** dX [N,in] (=|+=) dY [N,out] W, both in the tier's operand type; f32 accumulation. */
export function frozenInputGradient(
  gpu: Gpu,
  dY: Tensor,
  weight: FrozenWeight,
  dX: Tensor,
  options: FrozenGradientOptions = {},
): void {
  const { rowLimit = Infinity, accumulate = false } = options;
  expectTensor(dY, [-1, weight.outFeatures], gpu.computeDtype);
  expectTensor(dX, [dY.shape[0]!, weight.inFeatures], gpu.computeDtype);
  withDequantized(gpu, weight, rowLimit, (rows, first) =>
    matmulNN(gpu, dY, rows, dX, { aColumn: first, accumulate: accumulate || first > 0 }),
  );
}
