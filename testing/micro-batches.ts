import type { LinearSpec } from "../core/compute/linear.ts";
import type { Sample } from "../runtime/data/pack.ts";
import { expectThat } from "./contract.ts";
import { norm } from "./finite-differences.ts";
import type { ModelBench } from "./model-bench.ts";

/** Allowed error of a gradient from sums in another order, relative to what is rounded, by operand type. */
const TOLERANCE = { f32: 1e-5, f16: 4e-3 } as const;

/**
 * Fails where gradients of a batch change when it is cut into batches of one sample. The error of a gradient is held
 * against what is rounded on the way to it, which may be larger than the gradient by any factor:
 * - A part of each sample's gradient is rounded, so it is the sum of their norms: samples of different labels may cancel
 *   to a tenth of that, and their errors do not.
 * - Softmax's backward takes differences, and leaves a query's and a key's gradient to be what is left of terms of the
 *   value's size. So it is the largest of such sums among the linears of a module: those of one attention, or one MLP.
 * @param note said of a gradient that changes
 */
export async function expectSameWhenCut(
  bench: ModelBench,
  samples: readonly Sample[],
  { stepKey = 0, note = "" }: { readonly stepKey?: number; readonly note?: string } = {},
): Promise<void> {
  const tolerance = TOLERANCE[bench.session.gpu.computeDtype];
  const whole = await bench.gradients(samples, { stepKey });
  const cut = await bench.gradients(samples, { stepKey, maxSamples: 1 });
  const sums = new Map([...whole.keys()].map((name) => [name, 0]));
  for (const sample of samples)
    for (const [name, own] of await bench.gradients([sample], { stepKey }))
      sums.set(name, sums.get(name)! + norm(own) / samples.length);
  const largest = new Map<string, number>();
  const { linears } = bench.session.outline;
  for (const [name, sum] of sums) {
    const group = groupOf(name, linears);
    largest.set(group, Math.max(sum, largest.get(group) ?? 0));
  }
  for (const [name, want] of whole) {
    const error = norm(Float64Array.from(cut.get(name)!, (value, i) => value - want[i]!));
    const relative = error === 0 ? 0 : error / largest.get(groupOf(name, linears))!;
    expectThat(
      relative <= tolerance,
      `the gradient of ${name} from batches of one sample${note}: off by ${relative.toExponential(2)} of the samples' gradients, allowed ${tolerance}`,
    );
  }
}

/** A parameter's name with the module of its linear in the place of the linear; the name itself where it has none. */
function groupOf(parameter: string, linears: readonly LinearSpec[]): string {
  const linear = linears.find(({ name }) => parameter.includes(name));
  return linear === undefined ? parameter : parameter.replace(linear.name, linear.name.replace(/\.[^.]*$/, ""));
}
