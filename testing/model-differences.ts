import { uniformValues } from "../core/util/random.ts";
import type { Sample } from "../runtime/data/pack.ts";
import { expectThat } from "./contract.ts";
import { dot } from "./finite-differences.ts";
import type { ModelBench, NamedValues } from "./model-bench.ts";

/** Allowed error of a gradient along a direction, relative to its norm. */
const TOLERANCE = { f32: 5e-3, f16: 0.05 } as const;
/**
 * Change of the loss that a step aims at: small against the curve, large against the rounding of the loss. Rounding moves
 * an f16 loss by 1e-3 and more: at 0.1 that alone came to 0.95 of what is allowed, at 0.2 to 0.12; the curve takes 0.04 of
 * it at 0.2, and 0.37 at 0.4 (25 seeds of three models).
 */
const CHANGE = { f32: 0.02, f16: 0.2 } as const;
/** Longest step, in standard deviations of the parameter. */
const LONGEST = 0.3;

/** A move of some parameters, of length 1 all together. */
type Direction = ReadonlyMap<string, Float64Array>;

/**
 * Compares gradients with central differences of the training loss. In f32 along one direction for each parameter (at most
 * `most` of them, spread over the list): half the gradient itself, half random signs. The loss of an f16 forward is too
 * coarse for that: there along the whole gradient, once.
 * @throws ContractError naming the parameter and both numbers
 */
export async function expectGradientsOfLoss(
  bench: ModelBench,
  samples: readonly Sample[],
  { most = 12, seed = 1 }: { most?: number; seed?: number } = {},
): Promise<void> {
  const { computeDtype: half } = bench.session.gpu;
  const values = await bench.parameters.readValues();
  const gradients = await bench.gradients(samples);
  const check = async (what: string, names: readonly string[], direction: Direction): Promise<void> => {
    const norm = Math.sqrt(names.reduce((sum, name) => sum + dot(gradients.get(name)!, gradients.get(name)!), 0));
    const got = [...direction].reduce((sum, [name, d]) => sum + dot(gradients.get(name)!, d), 0);
    const spread = names.length > 1 ? Infinity : Math.max(0.01, rms(values.get(names[0]!)!));
    const step = Math.min(LONGEST * spread, CHANGE[half] / norm);
    const losses: number[] = [];
    for (const shift of [-2, -1, 1, 2]) {
      bench.write(moved(values, direction, shift * step));
      losses.push(await bench.loss(samples));
    }
    bench.write(values);
    const want = (losses[0]! - 8 * losses[1]! + 8 * losses[2]! - losses[3]!) / (12 * step);
    const error = Math.abs(got - want) / norm;
    expectThat(
      error <= TOLERANCE[half],
      `the gradient of ${what} along a direction is ${got}, differences of the loss give ${want} (${error.toExponential(2)} of its norm, allowed ${TOLERANCE[half]})`,
    );
  };

  const names = [...gradients.keys()];
  const norms = new Map(names.map((name) => [name, Math.sqrt(dot(gradients.get(name)!, gradients.get(name)!))]));
  for (const [name, norm] of norms) expectThat(norm > 0, `the gradient of ${name} is zero`);
  if (half === "f16") {
    const norm = Math.hypot(...norms.values());
    const along = names.map((name) => [name, Float64Array.from(gradients.get(name)!, (g) => g / norm)] as const);
    return check("all parameters", names, new Map(along));
  }
  const place = (i: number): number => Math.floor((i * most) / names.length);
  for (const name of names.filter((_, i) => place(i) !== place(i - 1))) {
    const gradient = gradients.get(name)!;
    const signs = uniformValues(gradient.length, 1, seed, `direction ${name}`);
    const direction = Float64Array.from(
      gradient,
      (g, i) => (g / norms.get(name)! + Math.sign(signs[i]!) / Math.sqrt(gradient.length)) * Math.SQRT1_2,
    );
    await check(name, [name], new Map([[name, direction]]));
  }
}

const rms = (values: Float32Array): number => Math.sqrt(dot(values, values) / values.length);

function moved(values: NamedValues, direction: Direction, step: number): NamedValues {
  return new Map([...direction].map(([name, d]) => [name, values.get(name)!.map((x, i) => x + step * d[i]!)]));
}
