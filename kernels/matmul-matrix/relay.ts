/**
 * The WGSL of the large product on images of B: `C [N,columns] f16 = sum over terms of A_t [N,K_t] * B_t [K_t,columns]`,
 * f32 sums; bindings, uniforms and results as `matmul.ts`, which serves what this does not.
 *
 * Two tiles 32 deep lie in workgroup memory, one barrier a tile. Half the subgroups copy the even tiles and half the odd
 * ones, each two tiles after it fetched them: a store waits for the youngest load of its subgroup, so a subgroup with one
 * batch in flight never waits long. Two tiles of 128 x 256 are 48 KiB to the byte and leave no room for padding: sixteen
 * lines of an odd stride hold all columns of vectors but one, the last, which lies behind them with stride 1. Fragments
 * of B are eight columns wide so that this column is one of its own.
 *
 * Constant store offsets, branches in place of run-time strides, and wider fragments were each 3 to 8 % slower.
 */
import type { KernelSpec } from "../../core/device/kernel.ts";
import { type MatmulShape, placeTile, productSpec } from "./launch.ts";
import { leftRow } from "./left-image.ts";
import { PACK, writePart, writeTile } from "./pack.ts";
import { lines, SubgroupTile } from "./subgroup-tile.ts";
import { IMAGE, LEFT_IMAGE, type MatrixUnit, relayLines, threadsOf, type Tiling } from "./tiling.ts";

const LEFT = "subgroup_matrix_left<f16, 16, 16>";
const RIGHT = "subgroup_matrix_right<f16, 8, 16>";
/** Depth of a slice, which one set of fragments holds. */
const SLICE = 16;

/** Which of the two tiles in workgroup memory, and which half of the subgroups fills it. */
type Slot = 0 | 1;
const other = (slot: Slot): Slot => (slot === 0 ? 1 : 0);

/** The unit that these kernels are made of, whatever larger one the adapter has. */
export function narrowUnit({ lanes }: MatrixUnit): MatrixUnit {
  return { m: 16, n: 8, k: SLICE, lanes };
}

/** The kernel: bindings A_0, B_0, A_1, B_1 …, then C or the partial sums; uniforms of `matmulUniforms`. */
export function relaySpec(unit: MatrixUnit, tiling: Tiling, shape: MatmulShape, group: number): KernelSpec {
  return productSpec(new RelayText(narrowUnit(unit), tiling, shape, group).module(), shape);
}

class RelayText {
  readonly #unit: MatrixUnit;
  readonly #tiling: Tiling;
  readonly #shape: MatmulShape;
  readonly #group: number;
  readonly #threads: number;
  /** Invocations that copy a tile. */
  readonly #half: number;
  /** For sums, their way out, and multiplications; its own loads are of another layout. */
  readonly #product: SubgroupTile;
  readonly #lines: ReturnType<typeof relayLines>;
  readonly #copiesA: number;
  readonly #copiesB: number;

  constructor(unit: MatrixUnit, tiling: Tiling, shape: MatmulShape, group: number) {
    this.#unit = unit;
    this.#tiling = tiling;
    this.#shape = shape;
    this.#group = group;
    this.#threads = threadsOf(unit, tiling);
    this.#half = this.#threads / 2;
    this.#lines = relayLines(tiling);
    this.#copiesA = (tiling.rows * 4) / this.#half;
    this.#copiesB = (tiling.columns * 4) / this.#half;
    const nowhere = { base: "0u", stride: 0 };
    this.#product = new SubgroupTile(
      unit,
      { rows: tiling.subgroupRows, columns: tiling.subgroupColumns },
      nowhere,
      nowhere,
    );
  }

  module(): string {
    const { terms, divided } = this.#shape;
    const whole = divided === undefined;
    const { columns: tileColumns, subgroupRows, subgroupColumns } = this.#tiling;
    const { a, tile, stride, last, total } = this.#lines;
    const across = tileColumns / subgroupColumns;
    const bindings = lines(
      terms,
      (t) => `@group(0) @binding(${2 * t}) var<storage, read> a${t}: array<vec4<u32>>;
@group(0) @binding(${2 * t + 1}) var<storage, read> b${t}: array<vec4<u32>>;`,
    );
    const end = tile + a + tileColumns / 8 + subgroupColumns / 8 - 1;
    return `
${bindings}
@group(0) @binding(${2 * terms}) var<storage, read_write> c: array<${whole ? "vec4<u32>" : "f32"}>;
var<workgroup> tile: array<vec4<u32>, ${total}>;
${PACK}
@compute @workgroup_size(${this.#threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let rows = params.rows;
  let place = group_index(wg, count);
  if (place >= params.tiles * params.parts) {
    return;
  }
  ${whole ? "" : "let part = place / params.tiles;"}
  let index = params.first + place${whole ? "" : " % params.tiles"};
  ${placeTile(this.#tiling, this.#group)}
  let subgroup = li / ${this.#unit.lanes}u;
  let lane = li % ${this.#unit.lanes}u;
  let lj = li % ${this.#half}u;
  let half = li / ${this.#half}u;
  let subgroup_row = row0 + subgroup / ${across}u * ${subgroupRows}u;
  let subgroup_column = col0 + subgroup % ${across}u * ${subgroupColumns}u;
  let base_a = subgroup / ${across}u * ${subgroupRows / 4}u;
  let base_b = ${a}u + subgroup % ${across}u * ${subgroupColumns / 8}u;
  let is_last = subgroup % ${across}u == ${across - 1}u;
  let last_b = select(base_b + ${end - a}u, ${last}u, is_last);
  let last_stride = select(${stride}u, 1u, is_last);
  ${this.#product.sums()}
  ${this.#copySetup()}
  ${[0, 1].map((set) => this.#fragments(set)).join("\n  ")}
  ${this.#mixed ? "var step_a: u32;" : ""}
  var pairs: u32;
  var left: u32;
  var more: bool;
  ${this.#sumTerms()}
  ${whole ? writeTile(this.#unit, this.#product, this.#tiling) : writePart(this.#unit, this.#product, this.#tiling)}
}
`;
  }

  #fragments(set: number): string {
    const { down, across } = this.#product;
    return `${lines(down, (i) => `var left${set}_0_${i}: ${LEFT};`)}\n  ${lines(across, (j) => `var right${set}_0_${j}: ${RIGHT};`)}`;
  }

  /**
   * Which vectors each invocation copies. Rows past the last are read as the last row: their results are never stored.
   * Rows of A are permuted within eights so that the stores of eight neighboring lanes meet eight banks.
   */
  #copySetup(): string {
    const { a, b, tile, stride, last } = this.#lines;
    const { columns } = this.#tiling;
    const rowsA = this.#half / 4;
    const setupA = lines(this.#copiesA, (i) => {
      const row = i === 0 ? leftRow("(lj / 4u)") : `ra0 + ${i * rowsA}u`;
      const to = i === 0 ? `ra0 % 16u * ${stride}u + ra0 / 16u * 4u + lj % 4u` : `to_a0 + ${(i * rowsA) / 4}u`;
      return `let ra${i} = ${row};
  let row_a${i} = min(row0 + ra${i}, rows - 1u);
  let to_a${i} = ${to};
  var at_a${i}: u32;
  var next_a${i}: vec4<u32>;`;
    });
    const setupB = lines(this.#copiesB, (i) => {
      const at = `(lj + ${i * this.#half}u)`;
      return `let to_b${i} = ${at} / ${b}u * ${stride}u + ${a}u + ${at} % ${b}u;
  let odd_b${i} = select(to_b${i} + ${tile}u, ${last}u + ${at} / ${b}u, is_last_b);
  var next_b${i}: vec4<u32>;`;
    });
    // A tile narrower than the image's takes its part of each line.
    const from =
      columns === IMAGE.columns
        ? "lj"
        : `lj / ${b}u * 64u + lj % ${b}u / ${columns / 8}u * 32u + lj % ${columns / 8}u + col0 % 256u / 8u`;
    return `${setupA}
  let is_last_b = lj % ${b}u == ${b - 1}u;
  ${setupB}
  let from_b = ${from};
  var at_b: u32;`;
  }

  /** Vectors of an image from one of an invocation's copies to its next. */
  get #nextB(): number {
    return (this.#half / this.#lines.b) * 64;
  }

  /** Fetches what the pointers show; of several terms the one that `term` says. */
  #load(terms: readonly number[]): string {
    const texts = terms.map(
      (
        term,
      ) => `${lines(this.#copiesA, (i) => `next_a${i} = a${term}[${this.#isPacked(term) ? `at_a0 + ${i * this.#half}u` : `at_a${i}`}];`)}
  ${lines(this.#copiesB, (i) => `next_b${i} = b${term}[at_b + ${i * this.#nextB}u];`)}`,
    );
    if (texts.length === 1) return texts[0]!;
    const cases = texts.map(
      (text, i) => `${i < texts.length - 1 ? `if (term == ${terms[i]!}u) ` : ""}{\n  ${text}\n  }`,
    );
    return cases.join(" else ");
  }

  #store(slot: Slot): string {
    const to = slot === 0 ? "to_b" : "odd_b";
    return `${lines(this.#copiesA, (i) => `tile[${slot === 0 ? "" : `${this.#lines.tile}u + `}to_a${i}] = next_a${i};`)}
  ${lines(this.#copiesB, (i) => `tile[${to}${i}] = next_b${i};`)}`;
  }

  /** Pairs of tiles of a term that this workgroup multiplies. */
  #pairsOf(term: number): string {
    const all = `params.depth${term} / 64u`;
    if (term >= (this.#shape.divided ?? 0)) return all;
    return `(${all} * (part + 1u) / params.parts - ${all} * part / params.parts)`;
  }

  /** Points each half at its tile of a term's first pair; `pairs` are to come. */
  #enter(term: number): string {
    const divided = term < (this.#shape.divided ?? 0);
    const begin = divided ? `let begin${term} = params.depth${term} / 64u * part / params.parts;` : "";
    const skipped = (perPair: number): string => (divided ? ` + begin${term} * ${perPair}u` : "");
    return `${begin}
  pairs = ${this.#pairsOf(term)};
  ${this.#isPacked(term) ? `at_a0 = (row0 / ${LEFT_IMAGE.rows}u * (params.stride${term} / 4u) + params.column${term} / 4u + half) * ${LEFT_IMAGE.vectors}u + lj${skipped(2 * LEFT_IMAGE.vectors)};` : lines(this.#copiesA, (i) => `at_a${i} = row_a${i} * params.stride${term} + params.column${term} + lj % 4u + half * 4u${skipped(8)};`)}
  ${this.#mixed ? `step_a = ${this.#stepA(term)}u;` : ""}
  at_b = (col0 / ${IMAGE.columns}u * (params.depth${term} / ${IMAGE.depth}u) + half) * ${IMAGE.vectors}u + from_b${skipped(2 * IMAGE.vectors)};`;
  }

  /** Points at the next pair; with `condition` only where it holds, so that nothing behind the last pair is read. */
  #advance(condition?: string): string {
    const step = (n: string): string => (condition === undefined ? n : `select(0u, ${n}, ${condition})`);
    // Of an operand that is packed one pointer is enough.
    const pointers = this.#shape.packed.every(Boolean) ? 1 : this.#copiesA;
    const by = step(this.#mixed ? "step_a" : `${this.#stepA(0)}u`);
    const at_b = `at_b += ${step(`${2 * IMAGE.vectors}u`)};`;
    if (condition === undefined) return `${lines(pointers, (i) => `at_a${i} += ${by};`)}\n  ${at_b}`;
    return `{
    let by = ${by};
    ${lines(pointers, (i) => `at_a${i} += by;`)}
    ${at_b}
  }`;
  }

  #isPacked(term: number): boolean {
    return this.#shape.packed[term] === true;
  }

  /** Whether left operands lie in different ways. */
  get #mixed(): boolean {
    return new Set(this.#shape.packed).size > 1;
  }

  /** Vectors of a left operand from a pair of tiles to the next. */
  #stepA(term: number): number {
    return this.#isPacked(term) ? 2 * LEFT_IMAGE.vectors : 8;
  }

  /** Fragments of a slice into a set, in the order in which they are used. */
  #reads(set: number, slot: Slot, slice: 0 | 1): string[] {
    const { down, across } = this.#product;
    const { tile, stride } = this.#lines;
    const first = slot * tile;
    const left = (i: number): string =>
      `left${set}_0_${i} = subgroupMatrixLoad<${LEFT}, row_major>(&tile, base_a + ${first + (i * 2 + slice) * 2}u, ${stride}u);`;
    const right = (j: number): string =>
      slot === 1 && slice === 1 && j === across - 1
        ? `right${set}_0_${j} = subgroupMatrixLoad<${RIGHT}, row_major>(&tile, last_b, last_stride);`
        : `right${set}_0_${j} = subgroupMatrixLoad<${RIGHT}, row_major>(&tile, base_b + ${first + (slice * this.#tiling.columns) / 8 + j}u, ${stride}u);`;
    return [
      left(0),
      ...Array.from({ length: across }, (_, j) => right(j)),
      ...Array.from({ length: down - 1 }, (_, i) => left(i + 1)),
    ];
  }

  /** Multiplies a set, with reads spread between. */
  #multiply(set: number, reads: readonly string[]): string {
    const { down, across } = this.#product;
    const count = down * across;
    const out: string[] = [];
    let done = 0;
    for (let x = 0; x < count; x++) {
      while (done < reads.length && done * (count - 1) < (x + 1) * reads.length) out.push(reads[done++]!);
      const [i, j] = [Math.floor(x / across), x % across];
      out.push(`sum${i}_${j} = subgroupMatrixMultiplyAccumulate(left${set}_0_${i}, right${set}_0_${j}, sum${i}_${j});`);
    }
    return out.join("\n  ");
  }

  /** Multiplies the tile in `here` while the half whose turn it is puts the next one into the other slot. */
  #step(here: Slot, fetch: readonly number[]): string {
    const there = other(here);
    return `if (half == ${there}u) {
  ${this.#store(there)}
  ${this.#load(fetch)}
  }
  ${this.#multiply(0, this.#reads(1, here, 1))}
  workgroupBarrier();
  ${this.#multiply(1, this.#reads(0, there, 0))}`;
  }

  /** The second tile of a pair and the first of the next, whose pair is stored meanwhile; one more pair of `fetch` is fetched. */
  #pair(fetch: readonly number[]): string {
    return `${this.#step(1, fetch)}\n  ${this.#step(0, fetch)}`;
  }

  #sumTerms(): string {
    const { terms, divided } = this.#shape;
    const all = Array.from({ length: terms }, (_, t) => t);
    if (divided === undefined || divided === terms) return this.#sum(all);
    const rest = `if (part == 0u) {\n  workgroupBarrier();\n  ${this.#sum(all.slice(divided))}\n  }`;
    return `${divided === 0 ? "" : this.#sum(all.slice(0, divided))}\n  ${rest}`;
  }

  /**
   * Terms one after another, in one loop: a turn stores one pair of tiles and fetches another, at the end the last one
   * again. A loop for each term, with a turn between them, was 1 to 5 % slower and twice the code to compile.
   */
  #sum(terms: readonly number[]): string {
    const [first] = terms as readonly [number];
    const several = terms.length > 1;
    const start = `${this.#enter(first)}
  ${this.#load([first])}
  if (half == 0u) {
  ${this.#store(0)}
  ${this.#advance("pairs > 1u")}
  ${this.#load([first])}
  } else {
  ${this.#advance("pairs > 1u")}
  }
  workgroupBarrier();
  ${this.#reads(0, 0, 0).join("\n  ")}
  ${this.#step(0, [first])}`;
    const before = several
      ? `var term = ${first}u;
  var to_come = pairs - 2u;
  left = ${terms.map((term) => this.#pairsOf(term)).join(" + ")} - 1u;`
      : `${this.#advance("pairs > 2u")}
  left = pairs - 1u;`;
    const turn = several
      ? `${this.#next(terms)}\n  ${this.#pair(terms)}`
      : `${this.#pair(terms)}\n  ${this.#advance("left > 2u")}`;
    return `${start}
  ${before}
  more = left > 0u;
  loop {
  if (!more) {
    break;
  }
  ${turn}
  left--;
  more = left > 0u;
  }
  ${this.#multiply(0, this.#reads(1, 1, 1))}
  ${this.#multiply(1, [])}`;
  }

  /** Points at the next pair of a sum; behind the last it stays. */
  #next(terms: readonly number[]): string {
    const enters = terms.slice(1).map(
      (term, i) => `else if (term == ${terms[i]!}u) {
  term = ${term}u;
  ${this.#enter(term)}
  to_come = pairs - 1u;
  }`,
    );
    return `if (to_come > 0u) {
  ${this.#advance()}
  to_come--;
  } ${enters.join(" ")}`;
  }
}
