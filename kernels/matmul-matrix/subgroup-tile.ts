import type { MatrixUnit } from "./tiling.ts";

/** `f(0) … f(n - 1)`, a line each. */
export function lines(n: number, f: (i: number) => string): string {
  return Array.from({ length: n }, (_, i) => f(i)).join("\n  ");
}

/** Directives that every kernel on subgroup matrices needs. */
export const MATRIX_DIRECTIVES = {
  enable: ["f16", "subgroups", "chromium_experimental_subgroup_matrix"],
  // A subgroup's place in the workgroup comes from local_invocation_index, which the analysis cannot know to be uniform.
  diagnostics: ["off, chromium.subgroup_matrix_uniformity"],
} as const;

/** Where an operand lies in workgroup memory, an `array<vec4<u32>>` named `tile`; 16-byte units throughout. */
export interface OperandTile {
  /** WGSL expression: the first unit that this subgroup reads. */
  readonly base: string;
  readonly stride: number;
}

/** Slices of a tile are 16 deep, whatever the unit's k. */
export const SLICE = 16;

/**
 * WGSL of one subgroup's share of a product: `rows` x `columns` f32 sums in registers (`sum{i}_{j}`), and named sets of
 * operand fragments, so that the next slice can be read while this one multiplies.
 */
export class SubgroupTile {
  /** Row blocks of m rows. */
  readonly down: number;
  /** Column blocks of n columns. */
  readonly across: number;
  readonly #unit: MatrixUnit;
  readonly #left: OperandTile;
  readonly #right: OperandTile;
  readonly #leftMajor: "row_major" | "col_major";
  readonly #steps: number;

  /**
   * @param left rows x depth; with `leftMajor` col_major it lies transposed, depth x rows
   * @param right depth x columns
   */
  constructor(
    unit: MatrixUnit,
    size: { readonly rows: number; readonly columns: number },
    left: OperandTile,
    right: OperandTile,
    leftMajor: "row_major" | "col_major" = "row_major",
  ) {
    this.#unit = unit;
    this.down = size.rows / unit.m;
    this.across = size.columns / unit.n;
    this.#left = left;
    this.#right = right;
    this.#leftMajor = leftMajor;
    this.#steps = SLICE / unit.k;
  }

  /** Sums, set to zero: without an initializer they are zeroed once a call, not once a turn of a loop. */
  sums(): string {
    const type = `subgroup_matrix_result<f32, ${this.#unit.n}, ${this.#unit.m}>`;
    return lines(
      this.down * this.across,
      (x) => `var sum${Math.floor(x / this.across)}_${x % this.across} = ${type}();`,
    );
  }

  /** Declares a set of fragments. */
  fragments(set: string): string {
    const { m, n, k } = this.#unit;
    return lines(this.#steps, (s) => {
      const left = lines(this.down, (i) => `var left${set}_${s}_${i}: subgroup_matrix_left<f16, ${k}, ${m}>;`);
      const right = lines(this.across, (j) => `var right${set}_${s}_${j}: subgroup_matrix_right<f16, ${n}, ${k}>;`);
      return `${left}\n  ${right}`;
    });
  }

  /** Reads slice `slice` of the tiles into a set. */
  load(set: string, slice: number): string {
    const { m, n, k } = this.#unit;
    const [left, right] = [this.#left, this.#right];
    return lines(this.#steps, (s) => {
      const depth = slice * SLICE + s * k;
      const leftAt = (i: number): number =>
        this.#leftMajor === "row_major" ? i * m * left.stride + depth / 8 : depth * left.stride + (i * m) / 8;
      const a = lines(
        this.down,
        (i) =>
          `left${set}_${s}_${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, ${this.#leftMajor}>(&tile, ${left.base} + ${leftAt(i)}u, ${left.stride}u);`,
      );
      const b = lines(
        this.across,
        (j) =>
          `right${set}_${s}_${j} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, row_major>(&tile, ${right.base} + ${depth * right.stride + (j * n) / 8}u, ${right.stride}u);`,
      );
      return `${a}\n  ${b}`;
    });
  }

  /** Multiplies a set into the sums of row blocks `from` to `to`. */
  multiply(set: string, from = 0, to: number = this.down): string {
    const { across } = this;
    return lines(this.#steps, (s) =>
      lines((to - from) * across, (x) => {
        const [i, j] = [from + Math.floor(x / across), x % across];
        return `sum${i}_${j} = subgroupMatrixMultiplyAccumulate(left${set}_${s}_${i}, right${set}_${s}_${j}, sum${i}_${j});`;
      }),
    );
  }
}
