/**
 * The WGSL of the large product: `C [N,columns] f16 = sum over terms of A_t [N,K_t] * B_t [K_t,columns]`, f32 sums.
 *
 * One workgroup makes one tile of C. Its operands pass through workgroup memory in tiles 32 deep, single buffered;
 * what hides latency is registers: while slice 0 of a tile multiplies, slice 1 is read from workgroup memory and the
 * tile after next from global memory (two register sets, `even` and `odd`, take turns). All sizes are uniforms, so that
 * the linears of all models share a few kernels, each of which takes seconds to compile. The loops are left by a flag
 * that the turn before has set, and operands are reached by pointers that move along: with a counted loop over uniform
 * sizes the driver sinks the fetching loads to their use, which costs a tenth.
 */
import type { KernelSpec } from "../../core/device/kernel.ts";
import { type MatmulShape, placeTile, productSpec } from "./launch.ts";
import { PACK, writePart, writeTile } from "./pack.ts";
import { lines, SubgroupTile } from "./subgroup-tile.ts";
import { IMAGE, type MatrixUnit, threadsOf, type Tiling, tileUnits, TUNING } from "./tiling.ts";

/** Choices that change speed, not results; the defaults are what measured fastest. */
export interface MatmulVariant {
  /** Row tiles walked together. */
  readonly group: number;
  /** Row blocks of the second slice that multiply between the two barriers. */
  readonly between: number;
  /** When B's prefetch is issued: with A's, during the first slice, or after the first barrier. */
  readonly loadB: "early" | "late";
}

export const DEFAULT_VARIANT: MatmulVariant = {
  group: TUNING.group,
  between: 1,
  loadB: "early",
};

/** Part of a kernel's key. */
export function variantKey(v: MatmulVariant): string {
  return `g${v.group}-b${v.between}-${v.loadB}`;
}

/** The tile to fetch: of which term, and how many tiles ahead of where its pointers stand. */
interface Fetch {
  readonly term: number;
  readonly ahead: 0 | 1;
}

type Set = "even" | "odd";
const other = (set: Set): Set => (set === "even" ? "odd" : "even");

/** The kernel: bindings A_0, B_0, A_1, B_1 …, then C or the partial sums; uniforms of `matmulUniforms`. */
export function matmulSpec(unit: MatrixUnit, tiling: Tiling, shape: MatmulShape, variant: MatmulVariant): KernelSpec {
  return productSpec(new MatmulText(unit, tiling, shape, variant).module(), shape);
}

class MatmulText {
  readonly #unit: MatrixUnit;
  readonly #tiling: Tiling;
  readonly #shape: MatmulShape;
  readonly #variant: MatmulVariant;
  readonly #threads: number;
  readonly #product: SubgroupTile;
  readonly #strideA: number;
  readonly #strideB: number;
  /** Depth of two tiles. */
  readonly #pair = 2 * TUNING.depth;
  /** Vectors of A and of B that one invocation copies a tile. */
  readonly #copiesA: number;
  readonly #copiesB: number;

  constructor(unit: MatrixUnit, tiling: Tiling, shape: MatmulShape, variant: MatmulVariant) {
    this.#unit = unit;
    this.#tiling = tiling;
    this.#shape = shape;
    this.#variant = variant;
    this.#threads = threadsOf(unit, tiling);
    this.#strideA = TUNING.depth / 8 + TUNING.pad;
    this.#strideB = tiling.columns / 8 + TUNING.pad;
    this.#copiesA = (tiling.rows * TUNING.depth) / 8 / this.#threads;
    this.#copiesB = (tiling.columns * TUNING.depth) / 8 / this.#threads;
    this.#product = new SubgroupTile(
      unit,
      { rows: tiling.subgroupRows, columns: tiling.subgroupColumns },
      { base: "left_base", stride: this.#strideA },
      { base: "right_base", stride: this.#strideB },
    );
  }

  module(): string {
    const { terms } = this.#shape;
    const whole = this.#shape.divided === undefined;
    const { columns: tileColumns, subgroupRows, subgroupColumns } = this.#tiling;
    const across = tileColumns / subgroupColumns;
    const units = tileUnits(this.#unit, this.#tiling);
    const bindings = lines(
      terms,
      (t) => `@group(0) @binding(${2 * t}) var<storage, read> a${t}: array<vec4<u32>>;
@group(0) @binding(${2 * t + 1}) var<storage, read> b${t}: array<vec4<u32>>;`,
    );
    return `
${bindings}
@group(0) @binding(${2 * terms}) var<storage, read_write> c: array<${whole ? "vec4<u32>" : "f32"}>;
var<workgroup> tile: array<vec4<u32>, ${units.total}>;
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
  ${placeTile(this.#tiling, this.#variant.group)}
  let subgroup = li / ${this.#unit.lanes}u;
  let lane = li % ${this.#unit.lanes}u;
  let subgroup_row = row0 + subgroup / ${across}u * ${subgroupRows}u;
  let subgroup_column = col0 + subgroup % ${across}u * ${subgroupColumns}u;
  let left_base = subgroup / ${across}u * ${subgroupRows * this.#strideA}u;
  let right_base = ${units.a}u + subgroup % ${across}u * ${subgroupColumns / 8}u;
  ${this.#copySetup(units.a)}
  ${this.#product.sums()}
  ${this.#product.fragments("0")}
  ${this.#product.fragments("1")}
  ${(["even", "odd"] as const).map((set) => this.#declareSet(set)).join("\n  ")}
  ${lines(this.#copiesA, (i) => `var at_a${i}: u32;`)}
  ${lines(this.#copiesB, (i) => `var at_b${i}: u32;`)}
  var pairs: u32;
  var more: bool;
  ${this.#sumTerms()}
  ${whole ? writeTile(this.#unit, this.#product, this.#tiling) : writePart(this.#unit, this.#product, this.#tiling)}
}
`;
  }

  /**
   * Which 16 bytes each invocation copies. Rows past the last are read as the last row: their results are never
   * stored. Rows of A are permuted within eights so that the stores of eight neighboring lanes meet eight banks.
   */
  #copySetup(firstB: number): string {
    const perRowA = TUNING.depth / 8;
    const perRowB = this.#tiling.columns / 8;
    const permuted = (row: string): string => `((${row} & ~7u) | ((${row} & 1u) << 2u) | ((${row} >> 1u) & 3u))`;
    const a = lines(this.#copiesA, (i) => {
      const row = permuted(`(li / ${perRowA}u + ${(i * this.#threads) / perRowA}u)`);
      return `let row_a${i} = min(row0 + ${row}, rows - 1u);
  let to_a${i} = ${row} * ${this.#strideA}u + li % ${perRowA}u;`;
    });
    const b = lines(this.#copiesB, (i) => {
      const at = `(li + ${i * this.#threads}u)`;
      const [k, eight] = [`(${at} / ${perRowB}u)`, `${at} % ${perRowB}u`];
      const from = this.#image
        ? `${k} % 16u * 64u + ${k} / 16u * 32u + col0 % ${IMAGE.columns}u / 8u + ${eight}`
        : `${k} * params.columns + col0 / 8u + ${eight}`;
      return `let from_b${i} = ${from};
  let to_b${i} = ${firstB}u + ${at} / ${perRowB}u * ${this.#strideB}u + ${at} % ${perRowB}u;`;
    });
    return `${a}\n  ${b}`;
  }

  get #image(): boolean {
    return this.#shape.layout === "image";
  }

  /** Vectors from a row of B to the one `depth` below it, a multiple of 32. */
  #deeper(depth: number): string {
    return this.#image ? `${(depth / IMAGE.depth) * IMAGE.vectors}u` : `${depth}u * params.columns`;
  }

  #terms(): number[] {
    return Array.from({ length: this.#shape.terms }, (_, t) => t);
  }

  /** Whether the parts of a tile share out this term. */
  #isDivided(term: number): boolean {
    return term < (this.#shape.divided ?? 0);
  }

  #declareSet(set: Set): string {
    return `${lines(this.#copiesA, (i) => `var ${set}_a${i}: vec4<u32>;`)}\n  ${lines(this.#copiesB, (i) => `var ${set}_b${i}: vec4<u32>;`)}`;
  }

  /** Points at the first tile of a term; `pairs` are left of it. */
  #enter(term: number): string {
    const divided = this.#isDivided(term);
    const setup = divided
      ? `let all${term} = params.depth${term} / ${this.#pair}u;
  let begin${term} = all${term} * part / params.parts;
  pairs = all${term} * (part + 1u) / params.parts - begin${term};`
      : `pairs = params.depth${term} / ${this.#pair}u;`;
    const skipped = (perPair: string): string => (divided ? ` + begin${term} * ${perPair}` : "");
    const a = lines(
      this.#copiesA,
      (i) =>
        `at_a${i} = row_a${i} * params.stride${term} + params.column${term} + li % ${TUNING.depth / 8}u${skipped(`${this.#pair / 8}u`)};`,
    );
    const tiles = this.#image
      ? ` + col0 / ${IMAGE.columns}u * (params.depth${term} / ${IMAGE.depth}u) * ${IMAGE.vectors}u`
      : "";
    const b = lines(this.#copiesB, (i) => `at_b${i} = from_b${i}${tiles}${skipped(`(${this.#deeper(this.#pair)})`)};`);
    return `${setup}\n  ${a}\n  ${b}`;
  }

  /** Points at the tile after the next. */
  #advance(): string {
    const a = lines(this.#copiesA, (i) => `at_a${i} += ${this.#pair / 8}u;`);
    return `${a}\n  ${lines(this.#copiesB, (i) => `at_b${i} += ${this.#deeper(this.#pair)};`)}`;
  }

  #loadA(set: Set, { term, ahead }: Fetch): string {
    return lines(this.#copiesA, (i) => `${set}_a${i} = a${term}[at_a${i} + ${(ahead * TUNING.depth) / 8}u];`);
  }

  #loadB(set: Set, { term, ahead }: Fetch): string {
    return lines(this.#copiesB, (i) => `${set}_b${i} = b${term}[at_b${i} + ${this.#deeper(ahead * TUNING.depth)}];`);
  }

  #load(set: Set, from: Fetch): string {
    return `${this.#loadA(set, from)}\n  ${this.#loadB(set, from)}`;
  }

  #store(set: Set): string {
    return `${lines(this.#copiesA, (i) => `tile[to_a${i}] = ${set}_a${i};`)}\n  ${lines(this.#copiesB, (i) => `tile[to_b${i}] = ${set}_b${i};`)}`;
  }

  /** Tile 0 of a term into workgroup memory, tile 1 into registers, the first fragments on their way. */
  #start(term: number): string {
    return `${this.#enter(term)}
  ${this.#load("even", { term, ahead: 0 })}
  ${this.#store("even")}
  ${this.#load("even", { term, ahead: 1 })}
  ${this.#advance()}
  workgroupBarrier();
  ${this.#product.load("0", 0)}`;
  }

  /**
   * One tile: multiplies it, puts the next one (waiting in `set`) in its place, and fetches the one after that into the
   * other set.
   * @param next what to fetch; undefined where nothing is left
   * @param last no tile follows
   */
  #step(set: Set, next: Fetch | undefined, last = false): string {
    const { down } = this.#product;
    const between = Math.min(this.#variant.between, down);
    if (last)
      return `${this.#product.load("1", 1)}\n  ${this.#product.multiply("0")}\n  ${this.#product.multiply("1")}`;
    const to = other(set);
    const early =
      next === undefined ? "" : this.#variant.loadB === "early" ? this.#load(to, next) : this.#loadA(to, next);
    const late = next === undefined || this.#variant.loadB === "early" ? "" : this.#loadB(to, next);
    return `${this.#product.load("1", 1)}
  ${early}
  ${this.#product.multiply("0")}
  workgroupBarrier();
  ${this.#store(set)}
  ${late}
  ${this.#product.multiply("1", 0, between)}
  workgroupBarrier();
  ${this.#product.load("0", 0)}
  ${this.#product.multiply("1", between)}`;
  }

  #sumTerms(): string {
    const all = this.#terms();
    const { divided } = this.#shape;
    if (divided === undefined || divided === all.length) return this.#sum(all);
    const rest = `if (part == 0u) {\n  workgroupBarrier();\n  ${this.#sum(all.slice(divided))}\n  }`;
    return `${divided === 0 ? "" : this.#sum(all.slice(0, divided))}\n  ${rest}`;
  }

  /** Two tiles, while two of `term` are fetched. */
  #steps(term: number): string {
    return `${this.#step("even", { term, ahead: 0 })}
  ${this.#step("odd", { term, ahead: 1 })}
  ${this.#advance()}`;
  }

  /** Terms one after another: the last pair of tiles of each stands outside its loop, and starts the next one. */
  #sum(terms: readonly number[]): string {
    const body = terms.map((term, at) => {
      const next = terms[at + 1];
      const last =
        next === undefined
          ? `${this.#step("even", undefined)}\n  ${this.#step("odd", undefined, true)}`
          : `${this.#enter(next)}\n  ${this.#steps(next)}`;
      return `more = pairs > 1u;
  loop {
  if (!more) {
    break;
  }
  ${this.#steps(term)}
  pairs--;
  more = pairs > 1u;
  }
  ${last}`;
    });
    return `${this.#start(terms[0]!)}\n  ${body.join("\n  ")}`;
  }
}
