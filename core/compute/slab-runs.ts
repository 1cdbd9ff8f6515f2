import type { Gpu } from "../device/gpu.ts";
import { partOf, type Tensor } from "../device/tensor.ts";
import { PARAMETER_ALIGN, type Parameter, ParameterSet, type Slab } from "./parameters.ts";

/** Consecutive parameters of a slab that are alike in `kind`, as a slab of their own over the same memory. */
export interface SlabRun<K> {
  readonly kind: K;
  readonly slab: Slab;
}

/**
 * Cuts a slab into maximal runs of consecutive parameters of one kind, for optimizers that treat them differently (by
 * size, by number of dimensions). A launcher that takes a slab takes a run's.
 * @example
 * const initial = () => new Float32Array(6);
 * const parameters = new ParameterSet(gpu, [{ name: "a", shape: [2, 3], initial }, { name: "b", shape: [6], initial }]);
 * for (const { kind, slab } of slabRuns(parameters.slabs[0]!, (p) => p.shape.length === 2)) console.log(kind, slab.size);
 */
export function slabRuns<K extends string | number | boolean>(
  whole: Slab,
  kindOf: (parameter: Parameter) => K,
): SlabRun<K>[] {
  const runs: { kind: K; members: Parameter[] }[] = [];
  for (const parameter of whole.parameters) {
    const kind = kindOf(parameter);
    const last = runs.at(-1);
    if (last?.kind === kind) last.members.push(parameter);
    else runs.push({ kind, members: [parameter] });
  }
  return runs.map(({ kind, members }) => ({ kind, slab: runSlab(whole, members) }));
}

/** The parameters that `chosen` picks, as a set of its own over the same memory. */
export function parameterSubset(
  gpu: Gpu,
  whole: ParameterSet,
  chosen: (parameter: Parameter) => boolean,
): ParameterSet {
  const runs = whole.slabs.flatMap((slab) => slabRuns(slab, chosen));
  return new ParameterSet(
    gpu,
    [],
    runs.filter(({ kind }) => kind).map(({ slab }) => slab),
  );
}

function runSlab(whole: Slab, members: readonly Parameter[]): Slab {
  const first = members[0]!.start;
  const last = members.at(-1)!;
  const size = Math.ceil((last.start + last.size - first) / PARAMETER_ALIGN) * PARAMETER_ALIGN;
  const part = (of: Tensor): Tensor => partOf(of, first, [size], of.label);
  const parameters: Parameter[] = [];
  const slab: Slab = { index: whole.index, size, value: part(whole.value), grad: part(whole.grad), parameters };
  for (const member of members) parameters.push({ ...member, slab, start: member.start - first });
  return slab;
}
