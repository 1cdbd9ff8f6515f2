import { ConfigError, type Parameter, type Slab } from "qlora/core";

/** How the factors of a slab's parameters lie: those of all rows, then those of all columns. */
export interface SlabLayout {
  /** Factors in all, and how many of them are of rows. */
  readonly factors: number;
  readonly rows: number;
  /** Which parameter a factor belongs to, then which one a block of 256 elements does: [factors + size/256] u32. */
  readonly ownerOf: Uint32Array<ArrayBuffer>;
  /** `Owner` of common.wgsl for each parameter: [parameters, 8] u32. */
  readonly owners: Uint32Array<ArrayBuffer>;
  readonly parts: readonly Part[];
}

/** A tensor of the checkpoint: `count` factors from `first` on. */
export interface Part {
  /** `<parameter>/row_var` [R,1], `/col_var` [1,C], or `/variance` [n] of a vector, as torch names and shapes them. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly first: number;
  readonly count: number;
}

/** Rows and columns of a parameter; a vector is one row. @throws ConfigError for more than two dimensions */
function sizes({ name, shape, size }: Parameter): readonly [rows: number, columns: number] {
  if (shape.length > 2) {
    throw new ConfigError(
      "OPTIMIZER_PARAMETER",
      `optimizer adafactor: parameter ${name} is [${shape.join(",")}], expected at most two dimensions`,
      { hint: "Use another optimizer for this adapter, e.g. adamw8bit." },
    );
  }
  return shape.length === 2 ? [shape[0]!, shape[1]!] : [1, size];
}

/** Lays a slab's factors out. */
export function layOut(slab: Slab): SlabLayout {
  const matrices = slab.parameters.filter((p) => p.shape.length === 2);
  const rows = matrices.reduce((sum, p) => sum + sizes(p)[0], 0);
  const factors = slab.parameters.reduce((sum, p) => sum + sizes(p)[1], rows);
  const ownerOf = new Uint32Array(factors + slab.size / 256);
  const owners = new Uint32Array(slab.parameters.length * 8);
  const parts: Part[] = [];
  let nextRow = 0;
  let nextColumn = rows;
  for (const [index, p] of slab.parameters.entries()) {
    const [height, width] = sizes(p);
    const isMatrix = p.shape.length === 2;
    const firstBlock = p.start / 256;
    owners.set([p.start, p.size, height, width, nextRow, nextColumn, firstBlock, isMatrix ? 1 : 0], index * 8);
    ownerOf.fill(index, nextColumn, nextColumn + width);
    ownerOf.fill(index, factors + firstBlock, factors + firstBlock + Math.ceil(p.size / 256));
    if (isMatrix) {
      ownerOf.fill(index, nextRow, nextRow + height);
      parts.push({ name: `${p.name}/row_var`, shape: [height, 1], first: nextRow, count: height });
      parts.push({ name: `${p.name}/col_var`, shape: [1, width], first: nextColumn, count: width });
      nextRow += height;
    } else parts.push({ name: `${p.name}/variance`, shape: p.shape, first: nextColumn, count: width });
    nextColumn += width;
  }
  return { factors, rows, ownerOf, owners, parts };
}
