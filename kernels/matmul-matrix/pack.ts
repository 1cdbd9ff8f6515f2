import { lines, type SubgroupTile } from "./subgroup-tile.ts";
import { type MatrixUnit, stageStride, stageUnits, type Tiling } from "./tiling.ts";

/**
 * WGSL that takes a subgroup's sums out of their registers, m rows at a time, through workgroup memory: a result matrix
 * hides which lane holds which element, so this is the only way to guard rows, pack to f16 or look at a column.
 *
 * `use(i)` is text that runs for eight neighboring columns of one row of block i, with `low` and `high` (vec4<f32>),
 * `block_row` (row within the block) and `eight` (which eight columns) in scope. Needs `subgroup`, `lane`; the
 * workgroup must have passed a barrier since `tile` was last read.
 */
export function stageSums(
  unit: MatrixUnit,
  tile: SubgroupTile,
  columns: number,
  use: (i: number, piece: number) => string,
): string {
  const stride = stageStride(columns);
  const eights = columns / 8;
  const pieces = (unit.m * eights) / unit.lanes;
  const block = (i: number): string => {
    const store = lines(
      tile.across,
      (j) => `subgroupMatrixStore<row_major>(&tile, stage + ${(j * unit.n) / 4}u, sum${i}_${j}, ${stride}u);`,
    );
    const take = lines(
      pieces,
      (p) => `{
    let block_row = (lane + ${p * unit.lanes}u) / ${eights}u;
    let eight = (lane + ${p * unit.lanes}u) % ${eights}u;
    let low = bitcast<vec4<f32>>(tile[stage + block_row * ${stride}u + eight * 2u]);
    let high = bitcast<vec4<f32>>(tile[stage + block_row * ${stride}u + eight * 2u + 1u]);
    ${use(i, p)}
  }`,
    );
    return `${store}\n  workgroupBarrier();\n  ${take}\n  ${i < tile.down - 1 ? "workgroupBarrier();" : ""}`;
  };
  return `let stage = subgroup * ${stageUnits(unit, columns)}u;\n  ${lines(tile.down, block)}`;
}

/** WGSL that writes a workgroup's tile of C, or adds it to what C holds: rows that exist, eight columns of f16 at a time. */
export function writeTile(unit: MatrixUnit, tile: SubgroupTile, { subgroupColumns }: Tiling): string {
  return `workgroupBarrier();
  ${stageSums(
    unit,
    tile,
    subgroupColumns,
    (i) => `let row = subgroup_row + ${i * unit.m}u + block_row;
    if (row < rows) {
      let at = row * params.columns + subgroup_column / 8u + eight;
      if (params.accumulate > 0u) {
        let before = unpack8(c[at]);
        c[at] = pack8(low + before[0], high + before[1]);
      } else {
        c[at] = pack8(low, high);
      }
    }`,
  )}`;
}

/** WGSL that writes a part of a tile's sums in f32, whole: the parts of a split tail are added up by `finish.ts`. */
export function writePart(unit: MatrixUnit, { down, across }: SubgroupTile, { rows, columns }: Tiling): string {
  return `let out = ((part * params.tiles + place % params.tiles) * ${rows}u + subgroup_row - row0) * ${columns}u + subgroup_column - col0;
  ${lines(down * across, (x) => {
    const [i, j] = [Math.floor(x / across), x % across];
    return `subgroupMatrixStore<row_major>(&c, out + ${i * unit.m * columns + j * unit.n}u, sum${i}_${j}, ${columns}u);`;
  })}`;
}

/** Eight f32 as eight f16. */
export const PACK = `fn pack8(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
fn unpack8(bits: vec4<u32>) -> array<vec4<f32>, 2> {
  return array<vec4<f32>, 2>(
    vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)),
    vec4<f32>(unpack2x16float(bits.z), unpack2x16float(bits.w)));
}
`;
