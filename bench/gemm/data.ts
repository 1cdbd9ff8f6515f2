import type { Gpu } from "../../core/device/gpu.ts";
import { gridFor } from "../../core/device/kernel.ts";
import { byteSize, type Tensor } from "../../core/device/tensor.ts";
import { dropoutSource, dropoutThreshold } from "../../kernels/dropout/generator.ts";
import { IMAGE_VECTOR } from "../../kernels/matmul-matrix/image.ts";

const HASH = `fn hash(x0: u32) -> u32 {
  var x = x0 * 747796405u + 2891336453u;
  x = ((x >> ((x >> 28u) + 4u)) ^ x) * 277803737u;
  return (x >> 22u) ^ x;
}
`;

/** What a tensor is filled with: f16 or f32 in [-1, 1], raw bits, or NaN to show what nobody wrote. */
export type Fill = "f16" | "f32" | "bits" | "poison";

const VALUES: Readonly<Record<Fill, string>> = {
  f16: "pack2x16float(vec2f(f32(h & 0xffffu), f32(h >> 16u)) / 32768.0 - 1.0)",
  f32: "bitcast<u32>(f32(h) / 2147483648.0 - 1.0)",
  bits: "h",
  poison: "0x7fc07e00u",
};

/** Fills a tensor on the GPU. */
export function fill(gpu: Gpu, tensor: Tensor, what: Fill, seed = 1): Tensor {
  const words = byteSize(tensor) / 4;
  const kernel = gpu.kernel(`bench/fill/${what}`, () => ({
    code: `${HASH}
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  for (var i = group_index(wg, count) * 256u + li; i < params.words; i += params.groups * 256u) {
    let h = hash(i ^ params.seed);
    data[i] = ${VALUES[what]};
  }
}
`,
    bindings: ["write"],
    uniforms: { words: "u32", seed: "u32", groups: "u32" },
  }));
  const groups = Math.min(65535, Math.ceil(words / 256));
  gpu.dispatch(kernel, [tensor], { words, seed, groups }, gridFor(groups));
  return tensor;
}

/** A tensor of random values. */
export function randomTensor(
  gpu: Gpu,
  shape: readonly number[],
  what: Fill = "f16",
  seed = Math.floor(Math.random() * 2 ** 32),
): Tensor {
  return fill(gpu, gpu.alloc(shape, what === "f16" ? "f16" : what === "f32" ? "f32" : "u32", "bench"), what, seed);
}

/** The image of an operand that lies row by row. */
export function toImage(gpu: Gpu, b: Tensor): Tensor {
  const [depth, columns] = b.shape as readonly [number, number];
  const image = gpu.alloc([depth, columns], "f16", `image of ${b.label}`);
  const kernel = gpu.kernel("bench/image", () => ({
    code: `${IMAGE_VECTOR}
@group(0) @binding(0) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> image: array<vec4<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let i = group_index(wg, count) * 256u + li;
  if (i < params.size) {
    image[image_vector(i / params.across, i % params.across, params.depth)] = b[i];
  }
}
`,
    bindings: ["read", "write"],
    uniforms: { size: "u32", across: "u32", depth: "u32" },
  }));
  const size = (depth * columns) / 8;
  gpu.dispatch(kernel, [b, image], { size, across: columns / 8, depth }, gridFor(size / 256));
  return image;
}

/** How element (row, k) of an operand lies in its tensor: `first + row * row step + k * depth step`, in elements. */
export interface Layout {
  readonly first?: number;
  readonly row: number;
  readonly depth: number;
}

/** A dot product to sum: a (row, k) times b (column, k). */
export interface Dot {
  readonly a: Tensor;
  readonly aLayout: Layout;
  readonly b: Tensor;
  readonly bLayout: Layout;
  readonly depth: number;
  /** Dropout, and which two of (row, column, k) name the mask's row and column. */
  readonly mask?: {
    readonly rowKeys: Tensor;
    readonly site: number;
    readonly seed: number;
    readonly p: number;
    readonly at: "row,k" | "k,row" | "row,column";
  };
}

const SAMPLES = 4096;

/**
 * Relative error of `SAMPLES` random elements of c against f32 dot products computed one by one.
 * @returns ||c - reference|| / ||reference||; NaN where an element of c is NaN
 */
export async function sampleError(
  gpu: Gpu,
  dots: readonly Dot[],
  c: Tensor,
  size: { readonly rows: number; readonly columns: number; readonly layout: Layout; readonly scale?: number },
): Promise<number> {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const results = gpu.alloc([SAMPLES * 2], "f32", "samples");
  gpu.clear(results);
  const none = gpu.alloc([1], "u32", "no keys");
  for (const [i, { a, aLayout, b, bLayout, depth, mask }] of dots.entries()) {
    const kernel = gpu.kernel(`bench/sample/${mask?.at ?? "none"}/${c.dtype}`, () =>
      sampleSpec(mask?.at, c.dtype === "f16"),
    );
    const uniforms = {
      rows: size.rows,
      columns: size.columns,
      depth,
      seed,
      a_first: aLayout.first ?? 0,
      a_row: aLayout.row,
      a_depth: aLayout.depth,
      b_first: bLayout.first ?? 0,
      b_row: bLayout.row,
      b_depth: bLayout.depth,
      c_first: size.layout.first ?? 0,
      c_row: size.layout.row,
      c_column: size.layout.depth,
      last: i === dots.length - 1 ? 1 : 0,
      scale: size.scale ?? 1,
      site: mask?.site ?? 0,
      mask_seed: mask?.seed ?? 0,
      threshold: dropoutThreshold(mask?.p ?? 0),
    };
    gpu.dispatch(kernel, [a, b, c, mask?.rowKeys ?? none, results], uniforms, [SAMPLES / 64, 1, 1]);
  }
  const values = await gpu.readFloats(results);
  gpu.free(results);
  gpu.free(none);
  let [error, norm] = [0, 0];
  for (let i = 0; i < SAMPLES; i++) {
    error += (values[2 * i]! - values[2 * i + 1]!) ** 2;
    norm += values[2 * i + 1]! ** 2;
  }
  return Math.sqrt(error / norm);
}

function sampleSpec(at: "row,k" | "k,row" | "row,column" | undefined, half: boolean) {
  const keep = (row: string, column: string): string =>
    `dropout_keep4(keys[${row}], params.site, ${column} / 4u, params.mask_seed, params.threshold)[${column} % 4u]`;
  const inside =
    at === "row,k" || at === "k,row"
      ? `if (!${at === "row,k" ? keep("row", "k") : keep("k", "row")}) { continue; }`
      : "";
  const outside = at === "row,column" ? `if (!${keep("row", "column")}) { sum = 0.0; }` : "";
  const read = half ? "half_of(c[at / 2u], at)" : "bitcast<f32>(c[at])";
  return {
    code: `${HASH}${dropoutSource}
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read> c: array<u32>;
@group(0) @binding(3) var<storage, read> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> results: array<vec2f>;
fn half_of(word: u32, at: u32) -> f32 { let pair = unpack2x16float(word); return select(pair.x, pair.y, at % 2u == 1u); }
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  _ = keys[0];
  _ = params.site + params.mask_seed + params.threshold;
  let row = hash(id.x ^ params.seed) % params.rows;
  let column = hash((id.x + 77777u) ^ params.seed) % params.columns;
  var sum = 0.0;
  for (var k = 0u; k < params.depth; k++) {
    ${inside}
    let at_a = params.a_first + row * params.a_row + k * params.a_depth;
    let at_b = params.b_first + column * params.b_row + k * params.b_depth;
    sum += half_of(a[at_a / 2u], at_a) * half_of(b[at_b / 2u], at_b);
  }
  ${outside}
  let total = results[id.x].y + params.scale * sum;
  let at = params.c_first + row * params.c_row + column * params.c_column;
  results[id.x] = vec2f(select(0.0, ${read}, params.last == 1u), total);
}
`,
    bindings: ["read", "read", "read", "read", "write"] as const,
    uniforms: {
      rows: "u32",
      columns: "u32",
      depth: "u32",
      seed: "u32",
      a_first: "u32",
      a_row: "u32",
      a_depth: "u32",
      b_first: "u32",
      b_row: "u32",
      b_depth: "u32",
      c_first: "u32",
      c_row: "u32",
      c_column: "u32",
      last: "u32",
      scale: "f32",
      site: "u32",
      mask_seed: "u32",
      threshold: "u32",
    } as const,
  };
}

/** How many words of a tensor still hold the poison, or any f16 NaN. */
export async function countPoison(gpu: Gpu, tensor: Tensor): Promise<number> {
  const counter = gpu.alloc([1], "u32", "poisoned");
  gpu.clear(counter);
  const words = byteSize(tensor) / 4;
  const kernel = gpu.kernel("bench/count-poison", () => ({
    code: `
@group(0) @binding(0) var<storage, read> data: array<u32>;
@group(0) @binding(1) var<storage, read_write> counter: atomic<u32>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  var found = 0u;
  for (var i = group_index(wg, count) * 256u + li; i < params.words; i += params.groups * 256u) {
    let word = data[i];
    if ((word & 0x7c00u) == 0x7c00u || (word & 0x7c000000u) == 0x7c000000u) { found++; }
  }
  if (found > 0u) { atomicAdd(&counter, found); }
}
`,
    bindings: ["read", "write"],
    uniforms: { words: "u32", groups: "u32" },
  }));
  const groups = Math.min(4096, Math.ceil(words / 256));
  gpu.dispatch(kernel, [tensor, counter], { words, groups }, gridFor(groups));
  const [found = 0] = new Uint32Array((await gpu.readBytes(counter)).buffer);
  gpu.free(counter);
  return found;
}
