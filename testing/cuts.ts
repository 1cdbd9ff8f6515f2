import type { Sample } from "../core/data/pack.ts";
import { expectThat } from "./contract.ts";
import { norm } from "./differences.ts";
import type { ModelBench } from "./model-bench.ts";

/**
 * Fails where gradients of a batch change when it is cut into batches of one sample. What is rounded is a part of each
 * sample's gradient, so the error of their sum is held against the sum of their norms: samples of different labels may
 * cancel to a tenth of that, and their errors do not.
 * @param tolerance relative error of one sample's gradient
 * @param note said of a gradient that changes
 */
export async function expectSameWhenCut(
  bench: ModelBench,
  samples: readonly Sample[],
  tolerance: number,
  { stepKey = 0, note = "" }: { readonly stepKey?: number; readonly note?: string } = {},
): Promise<void> {
  const whole = await bench.gradients(samples, { stepKey });
  const cut = await bench.gradients(samples, { stepKey, maxSamples: 1 });
  const sizes = new Map([...whole.keys()].map((name) => [name, 0]));
  for (const sample of samples)
    for (const [name, own] of await bench.gradients([sample], { stepKey }))
      sizes.set(name, sizes.get(name)! + norm(own) / samples.length);
  for (const [name, want] of whole) {
    const error = norm(Float64Array.from(cut.get(name)!, (value, i) => value - want[i]!));
    const relative = error === 0 ? 0 : error / sizes.get(name)!;
    expectThat(
      relative <= tolerance,
      `the gradient of ${name} from batches of one sample${note}: off by ${relative.toExponential(2)} of the samples' gradients, allowed ${tolerance}`,
    );
  }
}
