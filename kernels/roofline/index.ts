/** What the device reaches where nothing but arithmetic, or nothing but memory, holds it back. */
import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor, type KernelSpec } from "../../core/device/kernel.ts";
import type { Tensor } from "../../core/device/tensor.ts";
import { DeviceError } from "../../core/errors.ts";
import { MATRIX_DIRECTIVES, SLICE, SubgroupTile } from "../matmul-matrix/subgroup-tile.ts";
import { unitOf } from "../matmul-matrix/support.ts";
import type { MatrixUnit } from "../matmul-matrix/tiling.ts";
import copyCode from "./copy.wgsl" with { type: "text" };
import multiplyCode from "./multiply.wgsl" with { type: "text" };

const GROUPS = 1056; // eight to a multiprocessor of the largest cards
const COPY_BYTES = 256 * 2 ** 20;
/** A timing shorter than this is repeated with more work. */
const MIN_MS = 10;
/** Turns that keep the fastest card busy for longer than that. */
const MAX_TURNS = 2 ** 18;
/** Rows and columns of sums that a subgroup holds, as in the matrix products of training. */
const TILE = 64;
const SUBGROUPS = 4;

/** One launch of `turns` rounds; returns its floating-point operations. */
type Launch = (turns: number) => number;

/** Time of a launch of enough turns, in FLOP/s; the best of three. */
async function rate(gpu: Gpu, launch: Launch): Promise<number> {
  let turns = 16;
  let best = 0;
  for (let kept = 0; kept < 3;) {
    gpu.profileStart();
    const flops = launch(turns);
    const ms = (await gpu.profileEnd()).reduce((sum, line) => sum + line.ms, 0);
    if (ms < MIN_MS) {
      turns *= 4;
      if (turns <= MAX_TURNS) continue;
      throw new DeviceError("TIMESTAMPS_BROKEN", `the driver's timestamps tell ${ms} ms for ${flops} operations`, {
        hint: "Leave out --profile.",
      });
    }
    best = Math.max(best, (flops / ms) * 1000);
    kept++;
  }
  return best;
}

/** Copies in GB/s, each byte counted when it is read and when it is written. */
async function bandwidth(gpu: Gpu): Promise<number> {
  const bytes = Math.min(COPY_BYTES, gpu.device.limits.maxStorageBufferBindingSize);
  const size = Math.floor(bytes / 16);
  const [from, to] = ["source", "copy"].map((label) => gpu.alloc([size * 4], "f32", label, "scratch"));
  const kernel = gpu.kernel("roofline/copy", () => ({
    code: copyCode,
    bindings: ["read", "write"],
    uniforms: { size: "u32" },
  }));
  const perSecond = await rate(gpu, (turns) => {
    const copies = turns / 16;
    for (let i = 0; i < copies; i++) gpu.dispatch(kernel, [from!, to!], { size }, gridFor(size / 256));
    return copies * size * 32;
  });
  for (const tensor of [from!, to!]) gpu.free(tensor);
  return perSecond;
}

function multiplySpec(gpu: Gpu): KernelSpec {
  return {
    code: multiplyCode,
    bindings: ["read", "write"],
    uniforms: { turns: "u32" },
    types: { X: gpu.computeDtype },
  };
}

/** `turns` products of a 64 x 16 by a 16 x 64 operand in every subgroup, operands and sums in registers. */
export function matrixCeilingSpec(unit: MatrixUnit): KernelSpec {
  const stride = TILE / 8;
  const tile = new SubgroupTile(
    unit,
    { rows: TILE, columns: TILE },
    { base: "0u", stride: SLICE / 8 },
    { base: "0u", stride },
  );
  const stores = Array.from({ length: tile.down * tile.across }, (_, x) => {
    const [i, j] = [Math.floor(x / tile.across), x % tile.across];
    return `subgroupMatrixStore<row_major>(&sums, at + ${i * unit.m * TILE + j * unit.n}u, sum${i}_${j}, ${TILE}u);`;
  });
  return {
    code: `
@group(0) @binding(0) var<storage, read> seeds: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
var<workgroup> tile: array<vec4<u32>, ${stride * TILE}>;

@compute @workgroup_size(${unit.lanes * SUBGROUPS})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  for (var i = li; i < ${stride * TILE}u; i += ${unit.lanes * SUBGROUPS}u) {
    tile[i] = vec4<u32>(pack2x16float(vec2<f32>(seeds[i % 8u])));
  }
  workgroupBarrier();
  let lane = li % ${unit.lanes}u;
  let at = (group_index(wg, count) * ${SUBGROUPS}u + li / ${unit.lanes}u) * ${TILE * TILE}u;
  ${tile.sums()}
  ${tile.fragments("A")}
  ${tile.load("A", 0)}
  for (var turn = 0u; turn < params.rows; turn++) {
    ${tile.multiply("A")}
  }
  ${stores.join("\n  ")}
}
`,
    bindings: ["read", "write"],
    uniforms: { rows: "u32" },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}

async function arithmetic(gpu: Gpu): Promise<number> {
  const seeds = gpu.upload(new Float32Array(8).fill(2 ** -10), [8], "f32", "seeds", "scratch");
  const groups = Math.min(GROUPS, gpu.device.limits.maxComputeWorkgroupsPerDimension);
  const run = async (sums: Tensor, launch: Launch): Promise<number> => {
    const perSecond = await rate(gpu, launch);
    for (const tensor of [seeds, sums]) gpu.free(tensor);
    return perSecond;
  };
  if (gpu.tier === "matrix") {
    const unit = unitOf(gpu);
    const kernel = gpu.kernel("roofline/matrix", () => matrixCeilingSpec(unit));
    const sums = gpu.alloc([groups * SUBGROUPS, TILE * TILE], "f32", "sums", "scratch");
    return run(sums, (turns) => {
      gpu.dispatch(kernel, [seeds, sums], { rows: turns }, gridFor(groups));
      return groups * SUBGROUPS * turns * 2 * TILE * TILE * SLICE;
    });
  }
  const kernel = gpu.kernel(`roofline/multiply/${gpu.computeDtype}`, () => multiplySpec(gpu));
  const sums = gpu.alloc([groups * 256], "f32", "sums", "scratch");
  return run(sums, (turns) => {
    gpu.dispatch(kernel, [seeds, sums], { turns }, gridFor(groups));
    return groups * 256 * turns * 8 * 4 * 2;
  });
}

/** What a device reaches at most, measured. */
export interface Roofline {
  /** In products of the tier's operand type. */
  readonly flopsPerSecond: number;
  /** In a copy, reads and writes counted. */
  readonly bytesPerSecond: number;
}

/**
 * Measures both roofline of the device's tier: products in the operand type (on tensor cores in tier matrix), and a copy
 * from memory to memory. Takes well under a second on a GPU. Needs the feature timestamp-query.
 */
export async function measureRoofline(gpu: Gpu): Promise<Roofline> {
  return { flopsPerSecond: await arithmetic(gpu), bytesPerSecond: await bandwidth(gpu) };
}
