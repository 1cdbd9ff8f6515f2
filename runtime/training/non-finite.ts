import { countNonFinite } from "../../kernels/non-finite/index.ts";
import type { Session } from "../session/session.ts";

/**
 * Names of the parameters whose gradients hold NaN or infinity, in the adapter's order: the last of them is the deepest,
 * where an overflow on the way back through the layers began.
 */
export async function nonFiniteGradients({ gpu, parameters }: Session): Promise<string[]> {
  const list = parameters.parameters;
  const counters = gpu.alloc([list.length], "u32", "non-finite counters", "scratch");
  gpu.clear(counters);
  list.forEach((parameter, slot) => countNonFinite(gpu, parameter.grad, counters, slot));
  const counts = new Uint32Array((await gpu.readBytes(counters)).buffer);
  gpu.free(counters);
  return list.filter((_, i) => counts[i]! > 0).map(({ name }) => name);
}
