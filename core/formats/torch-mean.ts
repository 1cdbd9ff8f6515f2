/**
 * The mean of f32 values as torch takes it on a GPU, bit for bit: which values a lane adds and in what order lanes are added up decides
 * the last bits, and bitsandbytes keeps the mean of a weight's absmax values. Source: pytorch/pytorch, aten/src/ATen/native/cuda/Reduce.cuh.
 */

/** Lanes of the widest workgroup. */
const MOST_LANES = 512;
const VECTOR = 4;
/** Fewer values than this are read one by one. */
const VECTOR_FROM = 129;
const WARP = 32;

/** How many lanes of how many workgroups share a sum. */
export interface MeanPlan {
  /** Lanes of a workgroup; a power of two. */
  readonly lanes: number;
  readonly groups: number;
  /** Four neighbors are read at once, each into a sum of its own. */
  readonly vectors: boolean;
}

/** What torch chooses for `size` contiguous f32 values, on a GPU that holds as many workgroups at once as it asks for. */
export function meanPlan(size: number): MeanPlan {
  const vectors = size >= VECTOR_FROM;
  const units = vectors ? Math.floor(size / VECTOR) : size;
  let lanes = 1;
  while (lanes * 2 <= units && lanes < MOST_LANES) lanes *= 2;
  const perLane = Math.ceil(size / lanes);
  // Fewer workgroups than 256 values a lane are not worth a second pass; then each lane gets 16.
  return { lanes, vectors, groups: perLane >= 256 ? Math.ceil(perLane / 16) : 1 };
}

/** The mean `sum * (1 / n)`, all in f32; 0 of none. */
export function torchMean(values: Float32Array): number {
  if (values.length === 0) return 0;
  const plan = meanPlan(values.length);
  const sums = Float32Array.from({ length: plan.groups }, (_, group) => addLanes(laneSums(values, plan, group)));
  let total = sums[0]!;
  if (plan.groups > 1) {
    const lanes = new Float32Array(plan.lanes);
    sums.forEach((sum, group) => (lanes[group % plan.lanes]! += sum));
    total = addLanes(lanes);
  }
  return Math.fround(total * Math.fround(1 / values.length));
}

/** What each lane of a workgroup adds up by itself: four sums, then their sum. */
function laneSums(values: Float32Array, { lanes, groups, vectors }: MeanPlan, group: number): Float32Array {
  const size = values.length;
  const step = lanes * groups;
  const sums = new Float32Array(lanes);
  for (let lane = 0; lane < lanes; lane++) {
    const own = new Float32Array(VECTOR);
    let at = group * lanes + lane;
    if (vectors) {
      for (; at * VECTOR + VECTOR <= size; at += step) {
        for (let i = 0; i < VECTOR; i++) own[i]! += values[at * VECTOR + i]!;
      }
      const tail = size - (size % VECTOR) + lane;
      if (group === 0 && tail < size) own[0]! += values[tail]!;
    } else {
      for (; at + (VECTOR - 1) * step < size; at += VECTOR * step) {
        for (let i = 0; i < VECTOR; i++) own[i]! += values[at + i * step]!;
      }
      for (let i = 0; i < VECTOR && at < size; i++, at += step) own[i]! += values[at]!;
    }
    sums[lane] = Math.fround(Math.fround(own[0]! + own[1]!) + own[2]!) + own[3]!;
  }
  return sums;
}

/** Halves a workgroup until a warp is left, whose neighbors are then added. */
function addLanes(sums: Float32Array): number {
  const lanes = sums.slice();
  let count = lanes.length;
  for (; count > WARP; count /= 2) for (let i = 0; i < count / 2; i++) lanes[i]! += lanes[i + count / 2]!;
  for (let offset = 1; offset < count; offset *= 2) {
    for (let i = 0; i + offset < count; i++) lanes[i]! += lanes[i + offset]!;
  }
  return lanes[0]!;
}
