/**
 * Gradients whose bytes do not depend on the number of ranks: micro-batches are cut of the whole step, each is computed from zero,
 * and their gradients are added on the host in the order of the cut.
 */
import { groupLengths, rowsOfGroups, type Sample, splitMicroBatches } from "../data/pack.ts";
import { dealBatches } from "../distributed/deal.ts";
import type { World } from "../distributed/world.ts";
import type { Session } from "../session/session.ts";
import type { StepTotals } from "./reduce.ts";
import { accumulateGradients, type StepSettings } from "./step.ts";

/** A micro-batch's loss sum, then its gradient, as f32. */
type Part = Float32Array<ArrayBuffer>;

/**
 * The gradient of the mean loss over `samples`, which is every rank's then; the host holds one for each micro-batch meanwhile.
 * @param samples of the whole step, on every rank
 * @param step for error messages
 */
export async function orderedGradients(
  session: Session,
  world: World,
  samples: readonly Sample[],
  settings: StepSettings,
  step: number,
): Promise<StepTotals> {
  const { gpu, parameters } = session;
  const rows = settings.taskLoss?.rows ?? 1;
  const lengths = groupLengths(
    samples.map(({ inputIds }) => inputIds.length),
    rows,
  );
  const cut = splitMicroBatches(lengths, settings.limits);
  const shares = dealBatches(cut, lengths, world.size);
  const size = parameters.slabs.reduce((sum, slab) => sum + slab.size, 0);
  const compute = async (members: readonly number[]): Promise<Part> => {
    parameters.zeroGrad();
    const chosen = rowsOfGroups(members, rows).map((i) => samples[i]!);
    const whole = { ...settings, stepSamples: lengths.length, onBlock: undefined };
    const losses = await accumulateGradients(session, chosen, whole);
    const part = new Float32Array(1 + size);
    part[0] = (await gpu.readFloats(losses)).reduce((sum, value) => sum + value, 0);
    gpu.free(losses);
    let at = 1;
    for (const slab of parameters.slabs) {
      part.set(await gpu.readFloats(slab.grad), at);
      at += slab.size;
    }
    return part;
  };

  const parts: (Part | undefined)[] = cut.map(() => undefined);
  const rounds = Math.max(...shares.map((share) => share.length));
  for (let round = 0; round < rounds; round++) {
    const own = shares[world.rank]![round];
    const part = own === undefined ? new Float32Array() : await compute(cut[own]!);
    const all = await world.gather(new Uint8Array(part.buffer), { what: `the gradients of step ${step}` });
    for (const [rank, bytes] of all.entries()) {
      const place = shares[rank]![round];
      if (place !== undefined) parts[place] = new Float32Array(bytes.buffer);
    }
  }
  const sum = new Float32Array(1 + size);
  for (const part of parts) for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + part![i]!;
  let at = 1;
  for (const slab of parameters.slabs) {
    gpu.write(slab.grad, sum.subarray(at, at + slab.size));
    at += slab.size;
  }
  const tokens = shares.map((share) => share.reduce((all, b) => all + cut[b]!.reduce((t, i) => t + lengths[i]!, 0), 0));
  return {
    lossSum: async () => sum[0]!,
    samples: lengths.length,
    tokens: lengths.reduce((all, length) => all + length, 0),
    shares: tokens,
    waited: tokens.map(() => 0),
    reducing: 0,
  };
}
