/**
 * The WGSL of the large product: `C [N,columns] f16 = sum over terms of A_t [N,K_t] * B_t [K_t,columns]`, f32 sums.
 *
 * One workgroup makes one tile of C. Its operands pass through workgroup memory in tiles 32 deep, single buffered;
 * what hides latency is registers: while slice 0 of a tile multiplies, slice 1 is read from workgroup memory and the
 * tile after next from global memory (two register sets, `even` and `odd`, take turns). All depths are constants: with
 * an unknown trip count the driver sinks the prefetching loads to their use, which costs a third.
 */
import type { KernelSpec } from "../../core/compute/kernel.ts";
import { PACK, stageSums } from "./stage.ts";
import { lines, MATRIX_DIRECTIVES, SubgroupTile } from "./subgroup-tile.ts";
import { type MatrixUnit, threadsOf, type Tiling, tileUnits, TUNING } from "./tiling.ts";

/** One of the products that are summed. */
export interface TermShape {
  /** K_t; a multiple of 64. */
  readonly depth: number;
  /** Elements from one row of A_t to the next: K_t, or more where A_t is a column range of a wider tensor. */
  readonly stride: number;
  /** First column of A_t in that tensor. */
  readonly column: number;
}

/** What a pipeline is made for. */
export interface MatmulShape {
  readonly columns: number;
  readonly terms: readonly TermShape[];
  /** C += instead of C =. */
  readonly accumulate: boolean;
  /**
   * 1: whole tiles, written to C. More: each tile is made by that many workgroups, which share out the depth of every
   * term and leave f32 partial sums [parts, tiles, tile] for `tailSpec` to add up. For the last, part-empty wave.
   */
  readonly parts: number;
}

/** Choices that change speed, not results; the defaults are what measured fastest. */
export interface MatmulVariant {
  /**
   * How one term follows another (and the last tiles end): `peel` writes the last pair of tiles out separately, so that
   * its prefetch starts the next term; `restart` lets the loop prefetch past the end (clamped) and starts anew.
   */
  readonly join: "peel" | "restart";
  /** Layout of every A: `panels` is [K/32][N][32], so that a tile is contiguous. */
  readonly a: "rows" | "panels";
  /** Row tiles walked together. */
  readonly group: number;
  /** Row blocks of the second slice that multiply between the two barriers. */
  readonly between: number;
  /** When B's prefetch is issued: with A's, during the first slice, or after the first barrier. */
  readonly loadB: "early" | "late";
}

export const DEFAULT_VARIANT: MatmulVariant = {
  join: "peel",
  a: "rows",
  group: TUNING.group,
  between: 2,
  loadB: "early",
};

/** Part of a kernel's key. */
export function variantKey(v: MatmulVariant): string {
  return `${v.join}-${v.a}-g${v.group}-b${v.between}-${v.loadB}`;
}

type Set = "even" | "odd";
const other = (set: Set): Set => (set === "even" ? "odd" : "even");

/**
 * The kernel: bindings A_0, B_0, A_1, B_1 …, then C or the partial sums; uniforms `rows` (N), and the `tiles` to make
 * from the `first` on.
 */
export function matmulSpec(unit: MatrixUnit, tiling: Tiling, shape: MatmulShape, variant: MatmulVariant): KernelSpec {
  const text = new MatmulText(unit, tiling, shape, variant);
  return {
    code: text.module(),
    bindings: [...shape.terms.flatMap(() => ["read", "read"] as const), "write"],
    uniforms: { rows: "u32", first: "u32", tiles: "u32" },
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}

/**
 * Row and column of tile `index`, as `row0` and `col0`: groups of row tiles, down first, so that workgroups running
 * together share columns of B and a few rows of A.
 */
export function placeTile(tiling: Tiling, columns: number, group: number): string {
  const across = columns / tiling.columns;
  return `let group_first = index / ${group * across}u * ${group}u;
  let group_height = min((rows + ${tiling.rows - 1}u) / ${tiling.rows}u - group_first, ${group}u);
  let inside = index % ${group * across}u;
  let row0 = (group_first + inside % group_height) * ${tiling.rows}u;
  let col0 = inside / group_height * ${tiling.columns}u;`;
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
    const { terms, columns, parts } = this.#shape;
    const { columns: tileColumns, subgroupRows, subgroupColumns } = this.#tiling;
    const across = tileColumns / subgroupColumns;
    const units = tileUnits(this.#unit, this.#tiling);
    const bindings = terms.map(
      (_, t) => `@group(0) @binding(${2 * t}) var<storage, read> a${t}: array<vec4<u32>>;
@group(0) @binding(${2 * t + 1}) var<storage, read> b${t}: array<vec4<u32>>;`,
    );
    return `
${bindings.join("\n")}
@group(0) @binding(${2 * terms.length}) var<storage, read_write> c: array<${parts === 1 ? "vec4<u32>" : "f32"}>;
var<workgroup> tile: array<vec4<u32>, ${units.total}>;
${PACK}
@compute @workgroup_size(${this.#threads})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) li: u32) {
  let rows = params.rows;
  let place = group_index(wg, count);
  if (place >= params.tiles * ${parts}u) {
    return;
  }
  ${parts === 1 ? "" : "let part = place / params.tiles;"}
  let index = params.first + place${parts === 1 ? "" : " % params.tiles"};
  ${placeTile(this.#tiling, columns, this.#variant.group)}
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
  ${this.#sumTerms()}
  ${parts === 1 ? this.#writeTile() : this.#writePart()}
}
`;
  }

  #writeTile(): string {
    const { columns, accumulate } = this.#shape;
    const write = accumulate
      ? "let before = unpack8(c[at]); c[at] = pack8(low + before[0], high + before[1]);"
      : "c[at] = pack8(low, high);";
    return `workgroupBarrier();
  ${stageSums(
    this.#unit,
    this.#product,
    this.#tiling.subgroupColumns,
    (i) => `let row = subgroup_row + ${i * this.#unit.m}u + block_row;
    if (row < rows) {
      let at = row * ${columns / 8}u + subgroup_column / 8u + eight;
      ${write}
    }`,
  )}`;
  }

  #writePart(): string {
    const { rows, columns } = this.#tiling;
    const { down, across } = this.#product;
    return `let out = ((part * params.tiles + place % params.tiles) * ${rows}u + subgroup_row - row0) * ${columns}u + subgroup_column - col0;
  ${lines(down * across, (x) => {
    const [i, j] = [Math.floor(x / across), x % across];
    return `subgroupMatrixStore<row_major>(&c, out + ${i * this.#unit.m * columns + j * this.#unit.n}u, sum${i}_${j}, ${columns}u);`;
  })}`;
  }

  /**
   * Which 16 bytes each invocation copies. Rows past the last are read as the last row: their results are never
   * stored. Rows of A are permuted within eights so that the stores of eight neighbouring lanes meet eight banks.
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
      return `let from_b${i} = ${at} / ${perRowB}u * ${this.#shape.columns / 8}u + col0 / 8u + ${at} % ${perRowB}u;
  let to_b${i} = ${firstB}u + ${at} / ${perRowB}u * ${this.#strideB}u + ${at} % ${perRowB}u;`;
    });
    const from = this.#shape.terms.map(({ stride, column }, t) => {
      const first = this.#isDivided(t) ? `(${column}u + part * ${this.#depthOf(t)}u)` : `${column}u`;
      const fromA = lines(this.#copiesA, (i) =>
        this.#variant.a === "panels"
          ? `let from${t}_a${i} = (${first} / ${TUNING.depth}u * rows + row_a${i}) * ${perRowA}u + li % ${perRowA}u;`
          : `let from${t}_a${i} = row_a${i} * ${stride / 8}u + ${first} / 8u + li % ${perRowA}u;`,
      );
      const skipped = this.#isDivided(t) ? ` + part * ${(this.#depthOf(t) * this.#shape.columns) / 8}u` : "";
      return `${fromA}\n  ${lines(this.#copiesB, (i) => `let from${t}_b${i} = from_b${i}${skipped};`)}`;
    });
    return `${a}\n  ${b}\n  ${from.join("\n  ")}`;
  }

  /** Whether the parts of a tile share out this term; one too short for that belongs to part 0. */
  #isDivided(term: number): boolean {
    const { terms, parts } = this.#shape;
    return parts > 1 && terms[term]!.depth % (parts * TUNING.depthMultiple) === 0;
  }

  #depthOf(term: number): number {
    const { terms, parts } = this.#shape;
    return terms[term]!.depth / (this.#isDivided(term) ? parts : 1);
  }

  #declareSet(set: Set): string {
    return `${lines(this.#copiesA, (i) => `var ${set}_a${i}: vec4<u32>;`)}\n  ${lines(this.#copiesB, (i) => `var ${set}_b${i}: vec4<u32>;`)}`;
  }

  #loadA(set: Set, term: number, k: string): string {
    const step = this.#variant.a === "panels" ? `${k} / ${TUNING.depth}u * (rows * ${TUNING.depth / 8}u)` : `${k} / 8u`;
    return lines(this.#copiesA, (i) => `${set}_a${i} = a${term}[from${term}_a${i} + ${step}];`);
  }

  #loadB(set: Set, term: number, k: string): string {
    return lines(
      this.#copiesB,
      (i) => `${set}_b${i} = b${term}[from${term}_b${i} + ${k} * ${this.#shape.columns / 8}u];`,
    );
  }

  #load(set: Set, term: number, k: string): string {
    return `${this.#loadA(set, term, k)}\n  ${this.#loadB(set, term, k)}`;
  }

  #store(set: Set): string {
    return `${lines(this.#copiesA, (i) => `tile[to_a${i}] = ${set}_a${i};`)}\n  ${lines(this.#copiesB, (i) => `tile[to_b${i}] = ${set}_b${i};`)}`;
  }

  /** Tile 0 of a term into workgroup memory, tile 1 into registers, the first fragments on their way. */
  #start(term: number): string {
    return `${this.#load("even", term, "0u")}
  ${this.#store("even")}
  ${this.#load("even", term, `${TUNING.depth}u`)}
  workgroupBarrier();
  ${this.#product.load("0", 0)}`;
  }

  /**
   * One tile: multiplies it, puts the next one (waiting in `set`) in its place, and fetches the one after that into the
   * other set.
   * @param next term and depth to fetch; undefined where nothing is left to fetch
   * @param last no tile follows
   */
  #step(set: Set, next: { term: number; k: string } | undefined, last = false): string {
    const { down } = this.#product;
    const between = Math.min(this.#variant.between, down);
    if (last)
      return `${this.#product.load("1", 1)}\n  ${this.#product.multiply("0")}\n  ${this.#product.multiply("1")}`;
    const to = other(set);
    const early =
      next === undefined
        ? ""
        : this.#variant.loadB === "early"
          ? this.#load(to, next.term, next.k)
          : this.#loadA(to, next.term, next.k);
    const late = next === undefined || this.#variant.loadB === "early" ? "" : this.#loadB(to, next.term, next.k);
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
    const join = (list: number[]): string =>
      this.#variant.join === "peel" ? this.#peeled(list) : this.#restarted(list);
    const all = this.#shape.terms.map((_, t) => t);
    if (this.#shape.parts === 1) return join(all);
    const short = all.filter((t) => !this.#isDivided(t));
    const rest = short.length === 0 ? "" : `if (part == 0u) {\n  workgroupBarrier();\n  ${join(short)}\n  }`;
    return `${join(all.filter((t) => this.#isDivided(t)))}\n  ${rest}`;
  }

  #peeled(terms: readonly number[]): string {
    const { depth } = TUNING;
    const body = terms.map((term, at) => {
      const loop = `for (var k = 0u; k < ${this.#depthOf(term) - 2 * depth}u; k += ${2 * depth}u) {
  ${this.#step("even", { term, k: `(k + ${2 * depth}u)` })}
  ${this.#step("odd", { term, k: `(k + ${3 * depth}u)` })}
  }`;
      const next = terms[at + 1];
      const last =
        next === undefined
          ? `${this.#step("even", undefined)}\n  ${this.#step("odd", undefined, true)}`
          : `${this.#step("even", { term: next, k: "0u" })}\n  ${this.#step("odd", { term: next, k: `${depth}u` })}`;
      return `${this.#depthOf(term) > 2 * depth ? loop : ""}\n  ${last}`;
    });
    return `${this.#start(terms[0]!)}\n  ${body.join("\n  ")}`;
  }

  #restarted(terms: readonly number[]): string {
    const { depth } = TUNING;
    const body = terms.map((term, at) => {
      const clamped = (k: string): string => `min(${k}, ${this.#depthOf(term) - depth}u)`;
      return `${at > 0 ? "workgroupBarrier();" : ""}
  ${this.#start(term)}
  for (var k = 0u; k < ${this.#depthOf(term)}u; k += ${2 * depth}u) {
  let next_even = ${clamped(`k + ${2 * depth}u`)};
  ${this.#step("even", { term, k: "next_even" })}
  let next_odd = ${clamped(`k + ${3 * depth}u`)};
  ${this.#step("odd", { term, k: "next_odd" })}
  }`;
    });
    return body.join("\n  ");
  }
}
