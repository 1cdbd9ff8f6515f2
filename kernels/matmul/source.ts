/**
 * WGSL of the dense products. One body per layout, in two variants: `direct` reads operands straight from memory and needs
 * no barriers, which software adapters pay dearly for; `tiled` shares 64 x 64 tiles through workgroup memory, for GPUs. A
 * lane owns 4 x 4 results in f32 either way.
 */
import type { UniformType } from "../../core/device/kernel.ts";
import { dropoutSource } from "../dropout/index.ts";

/**
 * How A and B lie: `NT` is A [M,K] times B [N,K] transposed, `NN` is A [M,K] times B [K,N], `TN` is A [K,M] transposed
 * times B [K,N]. K is the summed dimension; token counts (M, or K in TN) are uniforms, all else is baked.
 */
export type Layout = "NT" | "NN" | "TN";

export type Variant = "direct" | "tiled";

/** What the text depends on. Sizes are uniforms: a model has dozens of shapes, and each pipeline takes a second to compile. */
export interface SourceOptions {
  readonly layout: Layout;
  readonly variant: Variant;
  /** Rows of A, B and C start and end on multiples of four elements, so that vec4 loads may be used. */
  readonly vectorA: boolean;
  readonly vectorB: boolean;
  readonly vectorC: boolean;
  readonly dropout: "a" | "b" | "c" | undefined;
}

/** Rows and columns of C that one workgroup makes, and its lanes. */
export const TILE = {
  direct: { rows: 4, columns: 64, lanes: 16 },
  tiled: { rows: 64, columns: 64, lanes: 256 },
} as const satisfies Record<Variant, unknown>;

/** Whether an operand's rows run along the summed dimension. */
const alongDepth = (layout: Layout, operand: "a" | "b"): boolean =>
  layout === "NT" || (layout === "NN" && operand === "a");

const four = [0, 1, 2, 3] as const;
const lines = (of: (i: number) => string): string => four.map(of).join("\n");

/** `load_x(row, column)`: four elements of a row, rounded to the operand type, zero beyond the row's end. */
function loader(options: SourceOptions, operand: "a" | "b"): string {
  const vector = operand === "a" ? options.vectorA : options.vectorB;
  const limit = `params.${operand}_columns`;
  const at = operand === "a" ? "row * params.a_stride + params.a_column" : "row * params.b_columns";
  const edge = alongDepth(options.layout, operand) ? "column" : `min(column, ${limit} - 4u)`;
  const body = vector
    ? `var v = vec4f(H4(${operand}[(${at} + ${edge}) / 4u]));`
    : `let at = ${at} + column;
  var v = vec4f();
${lines((j) => `  if (column + ${j}u < ${limit}) { v[${j}] = f32(H(${operand}[at + ${j}u])); }`)}`;
  const mask = options.dropout === operand ? `v = vec4f(H4(dropped(row, column, v)));` : "";
  return `fn load_${operand}(row: u32, column: u32) -> vec4f {\n  ${body}\n  ${mask}\n  return v;\n}\n`;
}

const maskSource = /* wgsl */ `${dropoutSource}
@group(0) @binding(3) var<storage, read> row_keys: array<u32>;
fn dropped(row: u32, column: u32, v: vec4f) -> vec4f {
  return select(vec4f(), v * params.keep_scale, dropout_keep4(row_keys[row], params.site, column / 4u, params.seed, params.threshold));
}
`;

/** One step of the sum: four k in NT and NN, one k in TN. `a(i)` and `b(j)` are the operands' vec4. */
function step(layout: Layout, a: (i: number) => string, b: (j: number) => string): string {
  if (layout === "TN") {
    return `let x = ${a(0)};\nlet y = ${b(0)};\n${lines((i) => `c${i} = fma(vec4f(x[${i}]), y, c${i});`)}`;
  }
  const row =
    layout === "NT"
      ? (i: number) => `c${i} += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));`
      : (i: number) => four.map((k) => `c${i} = fma(vec4f(x[${k}]), b${k}, c${i});`).join(" ");
  return `${lines((j) => `let b${j} = ${b(j)};`)}\n${lines((i) => `{ let x = ${a(i)}; ${row(i)} }`)}`;
}

function directLoop({ layout }: SourceOptions): string {
  const row = (i: number): string => `min(m0 + ${i}u, M - 1u)`;
  const body = {
    NT: step(
      "NT",
      (i) => `load_a(${row(i)}, k)`,
      (j) => `load_b(min(n0 + ${j}u, N - 1u), k)`,
    ),
    NN: step(
      "NN",
      (i) => `load_a(${row(i)}, k)`,
      (j) => `load_b(min(k + ${j}u, K - 1u), n0)`,
    ),
    TN: step(
      "TN",
      () => "load_a(k, m0)",
      () => "load_b(k, n0)",
    ),
  }[layout];
  return `let m0 = row_tile * 4u;
let n0 = (column_tile * 16u + lane) * 4u;
for (var k = begin; k < end; k += ${layout === "TN" ? 1 : 4}u) {
${body}
}`;
}

/** Depth of a shared tile. An operand along the depth lies [row][k/4] at an odd stride, the other [k][column/4]. */
const DEPTH = 16;
const STRIDE = DEPTH / 4 + 1;

function tiledLoop({ layout }: SourceOptions): string {
  const fill = (operand: "a" | "b", origin: string, last: string): string =>
    alongDepth(layout, operand)
      ? `{ let row = lane / 4u; let k = k0 + (lane % 4u) * 4u; var v = vec4f();
  if (k < end) { v = load_${operand}(min(${origin} + row, ${last} - 1u), k); }
  tile_${operand}[row * ${STRIDE}u + lane % 4u] = v; }`
      : `{ let k = k0 + lane / 16u; var v = vec4f();
  if (k < end) { v = load_${operand}(k, ${origin} + (lane % 16u) * 4u); }
  tile_${operand}[lane] = v; }`;
  const at = (operand: "a" | "b", position: string) => (i: number) =>
    alongDepth(layout, operand)
      ? `tile_${operand}[(${position} * 4u + ${i}u) * ${STRIDE}u + k / 4u]`
      : `tile_${operand}[(k + ${i}u) * 16u + ${position}]`;
  return `let m0 = row_tile * 64u + (lane / 16u) * 4u;
let n0 = column_tile * 64u + (lane % 16u) * 4u;
for (var k0 = begin; k0 < end; k0 += ${DEPTH}u) {
workgroupBarrier();
${fill("a", "row_tile * 64u", "M")}
${fill("b", "column_tile * 64u", "N")}
workgroupBarrier();
for (var k = 0u; k < ${DEPTH}u; k += ${layout === "TN" ? 1 : 4}u) {
${step(layout, at("a", "(lane / 16u)"), at("b", "(lane % 16u)"))}
}
}`;
}

/** Scales, masks, adds and stores the four results of row `m0 + i`. */
function store({ vectorC, dropout }: SourceOptions, i: number): string {
  const value = dropout === "c" ? `dropped(m0 + ${i}u, n0, c${i} * params.scale)` : `c${i} * params.scale`;
  const body = vectorC
    ? `let at = ((c_row + m0 + ${i}u) * params.c_stride + params.c_column + n0) / 4u;
  if (params.accumulate != 0u) { v += vec4f(c[at]); }
  c[at] = C4(v);`
    : `let at = (c_row + m0 + ${i}u) * params.c_stride + params.c_column + n0;
  for (var j = 0u; j < min(4u, N - n0); j++) {
    c[at + j] = C(select(0.0, f32(c[at + j]), params.accumulate != 0u) + v[j]);
  }`;
  return `if (m0 + ${i}u < M) {\n  var v = ${value};\n  ${body}\n}`;
}

/** The kernel's uniforms. */
export function matmulUniforms({ dropout }: Pick<SourceOptions, "dropout">): Record<string, UniformType> {
  const masks = { site: "u32", seed: "u32", threshold: "u32", keep_scale: "f32" } as const;
  const sizes = [
    "m",
    "n",
    "k",
    "a_columns",
    "a_stride",
    "a_column",
    "b_columns",
    "c_stride",
    "c_column",
    "splits",
    "chunk",
    "accumulate",
  ];
  return {
    ...Object.fromEntries(sizes.map((name) => [name, "u32" as const])),
    scale: "f32",
    ...(dropout === undefined ? {} : masks),
  };
}

/**
 * The kernel's text. Types: A, B, C as they are stored, and H, to which operands are rounded; bindings a, b, c and, with
 * dropout, the row keys.
 */
export function matmulSource(options: SourceOptions): string {
  const { layout, variant, dropout } = options;
  const tile = TILE[variant];
  const element = (name: string, vector: boolean): string => `array<${name}${vector ? "4" : ""}>`;
  const shared = (["a", "b"] as const).map(
    (x) => `var<workgroup> tile_${x}: array<vec4f, ${alongDepth(layout, x) ? 64 * STRIDE : 16 * DEPTH}>;`,
  );
  return /* wgsl */ `
@group(0) @binding(0) var<storage, read> a: ${element("A", options.vectorA)};
@group(0) @binding(1) var<storage, read> b: ${element("B", options.vectorB)};
@group(0) @binding(2) var<storage, read_write> c: ${element("C", options.vectorC)};
${variant === "tiled" ? shared.join("\n") : ""}
${dropout === undefined ? "" : maskSource}
${loader(options, "a")}
${loader(options, "b")}
@compute @workgroup_size(${tile.lanes})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let M = params.m;
  let N = params.n;
  let K = params.k;
  let row_tiles = (M + ${tile.rows - 1}u) / ${tile.rows}u;
  let tiles = row_tiles * ((N + ${tile.columns - 1}u) / ${tile.columns}u);
  // A folded grid may have workgroups to spare: they repeat the last tile and store nothing.
  let index = min(group_index(wg, count), tiles * params.splits - 1u);
  let spare = group_index(wg, count) > index;
  let split = index / tiles;
  let row_tile = index % row_tiles;
  let column_tile = (index % tiles) / row_tiles;
  let begin = split * params.chunk;
  let end = min(begin + params.chunk, K);
  let c_row = split * M;
  ${four.map((i) => `var c${i} = vec4f();`).join(" ")}
  ${variant === "direct" ? directLoop(options) : tiledLoop(options)}
  if (!spare && n0 < N) {
    ${lines((i) => store(options, i))}
  }
}
`;
}
