/** What the kernels of large products (`matmul.ts`, `relay.ts`) are made for and told at a launch. */
import type { KernelSpec } from "../../core/device/kernel.ts";
import type { OperandLayout } from "./image.ts";
import { MATRIX_DIRECTIVES } from "./subgroup-tile.ts";
import type { Tiling } from "./tiling.ts";

/** What a pipeline is made for. */
export interface MatmulShape {
  /** How many products are summed. */
  readonly terms: number;
  /**
   * Undefined: whole tiles, written to C. A number: each tile is made by `params.parts` workgroups, which share out the
   * depth of the first so many terms (those after are the first part's) and leave f32 partial sums [parts, tiles, tile]
   * for `sumTail` to add up.
   */
  readonly divided: number | undefined;
  /** How the right operands lie; `image.ts`. */
  readonly layout: OperandLayout;
  /** Of which terms the left operand lies as an image (`left-image.ts`); `relay` tiles of 128 rows only. */
  readonly packed: readonly boolean[];
}

/** One of the products as the kernel's uniforms say it. */
export interface MatmulTerm {
  /** K_t; a multiple of 64. */
  readonly depth: number;
  /** Elements from one row of A_t to the next: K_t, or more where A_t is a column range of a wider tensor. */
  readonly stride: number;
  /** First column of A_t in that tensor. */
  readonly column: number;
}

/** What one launch makes, as the kernel's uniforms say it. */
export interface MatmulLaunch {
  /** N. */
  readonly rows: number;
  readonly columns: number;
  /** The first tile to make, and how many. */
  readonly first: number;
  readonly tiles: number;
  /** Workgroups that share a tile. */
  readonly parts: number;
  /** C += instead of C =; whole tiles only. */
  readonly accumulate: boolean;
  readonly terms: readonly MatmulTerm[];
}

/** The uniforms of a launch. Widths are in units of 16 bytes. */
export function matmulUniforms({ rows, columns, first, tiles, parts, accumulate, terms }: MatmulLaunch) {
  return {
    rows,
    columns: columns / 8,
    first,
    tiles,
    parts,
    accumulate: Number(accumulate),
    ...Object.fromEntries(
      terms.flatMap(({ depth, stride, column }, t) => [
        [`depth${t}`, depth],
        [`stride${t}`, stride / 8],
        [`column${t}`, column / 8],
      ]),
    ),
  };
}

/** The spec around a large product's WGSL: bindings A_0, B_0, A_1, B_1 …, then C or the partial sums; uniforms of `matmulUniforms`. */
export function productSpec(code: string, { terms: count }: MatmulShape): KernelSpec {
  const terms = Array.from({ length: count }, () => ({ depth: 0, stride: 0, column: 0 }));
  const none = { rows: 0, columns: 0, first: 0, tiles: 0, parts: 1, accumulate: false };
  return {
    code,
    bindings: [...terms.flatMap(() => ["read", "read"] as const), "write"],
    uniforms: Object.fromEntries(Object.keys(matmulUniforms({ ...none, terms })).map((name) => [name, "u32"])),
    enable: [...MATRIX_DIRECTIVES.enable],
    diagnostics: [...MATRIX_DIRECTIVES.diagnostics],
  };
}

/**
 * Row and column of tile `index`, as `row0` and `col0`: groups of row tiles, down first, so that workgroups running
 * together share columns of B and a few rows of A.
 */
export function placeTile(tiling: Tiling, group: number): string {
  return `let per_group = params.columns / ${tiling.columns / 8}u * ${group}u;
  let group_first = index / per_group * ${group}u;
  let group_height = min((rows + ${tiling.rows - 1}u) / ${tiling.rows}u - group_first, ${group}u);
  let inside = index % per_group;
  let row0 = (group_first + inside % group_height) * ${tiling.rows}u;
  let col0 = inside / group_height * ${tiling.columns}u;`;
}
