/**
 * WGSL that the attention kernels on subgroup matrices share.
 *
 * A workgroup holds a tile of rows as matrices in registers and lets the rows of the other side pass through workgroup
 * memory, `columns` at a time. The elements of a matrix cannot be reached in registers, so each step's scores go through
 * workgroup memory too: every subgroup stores its part of them, then a few lanes to a row add up the parts, do the
 * arithmetic of softmax in f32 and leave f16 weights to multiply with.
 *
 * A tile that reaches past the last row is moved up to end with it; what it then computes twice it writes once.
 */
import { lines } from "../matmul-matrix/subgroup-tile.ts";
import { LANES, type MatrixPlan, SIDE } from "./matrix-plan.ts";

export const LEFT = "subgroup_matrix_left<f16, 16, 16>";
export const RIGHT = "subgroup_matrix_right<f16, 16, 16>";
export const RESULT = "subgroup_matrix_result<f32, 16, 16>";

/** Uniforms of every kernel here; scores are kept in units of ln 2, so that exp2 serves. */
export const MATRIX_UNIFORMS = {
  rows: "u32",
  tiles: "u32",
  window: "u32",
  /** Factor of q.k before the cap's tanh. */
  inner: "f32",
  /** Factor after it; without a cap the only one. */
  outer: "f32",
  /** Factor of the products' gradients: the scale. */
  scale: "f32",
} as const;

/** `squash` and its derivative. */
export function scoreFunctions(capped: boolean): string {
  if (!capped) {
    return `fn squash(product: vec4<f32>) -> vec4<f32> { return product; }
fn slope(squashed: vec4<f32>) -> vec4<f32> { return vec4<f32>(1.0); }`;
  }
  // Pade's [7/6] approximant of tanh: within 1e-6 up to 3, within 1e-4 everywhere, and one division instead of
  // an exponential and a division. It reaches 1 just past 4.97.
  return `fn squash(product: vec4<f32>) -> vec4<f32> {
  let x = clamp(product * params.inner, vec4<f32>(-4.97), vec4<f32>(4.97));
  let s = x * x;
  return x * (135135.0 + s * (17325.0 + s * (378.0 + s))) / (135135.0 + s * (62370.0 + s * (3150.0 + s * 28.0)));
}
fn slope(squashed: vec4<f32>) -> vec4<f32> { return 1.0 - squashed * squashed; }`;
}

/** Constants and the shared arrays; `tiles` names the tiles of passing rows, `sums` the arrays of partial products. */
export function declarations(
  plan: MatrixPlan,
  tiles: readonly string[],
  sums: readonly string[],
  weights: readonly string[],
): string {
  const { columns, tileStride, warps, teams, teamRows, scoreStride, weightStride } = plan;
  return [
    `const HEADS = ${plan.heads}u; const KV_HEADS = ${plan.kvHeads}u; const GROUP = HEADS / KV_HEADS;`,
    `const ROW = ${plan.rowVectors}u;`,
    ...tiles.map((name) => `var<workgroup> ${name}: array<vec4<u32>, ${columns * tileStride}>;`),
    ...sums.map((name) => `var<workgroup> ${name}: array<vec4<u32>, ${warps * teamRows * scoreStride}>;`),
    // Whole vectors, so that the array is aligned to 16 bytes: matrices are read wrong from anywhere else (seen on an H100).
    ...weights.map((name) => `var<workgroup> ${name}: array<vec4<u32>, ${(teams * teamRows * weightStride) / 2}>;`),
  ].join("\n");
}

export const ENTRY = `fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) index: u32) {`;

/** Where the subgroup stands: its lane, its team, its part of head_dim, and the blocks of rows it holds. */
export function place(plan: MatrixPlan): string {
  const { split, rowBlocks, packed } = plan;
  return `let warp = index / 32u; let lane = index % 32u;
  let team = warp / ${split}u; let part = warp % ${split}u;
  ${lines(
    rowBlocks,
    (b) => `let block${b} = team * ${rowBlocks}u + ${b}u;
  let wanted${b} = first + block${b} / ${packed}u * ${SIDE}u; let base${b} = min(wanted${b}, params.rows - ${SIDE}u);`,
  )}`;
}

/** The row of scores that a lane has a share in: `local` within the team, `row` of the batch, `share` of its columns. */
export function lanePlace(plan: MatrixPlan): string {
  const { teamRows, split, sharers, rowBlocks, packed } = plan;
  return `let share = lane % ${sharers}u;
  let local = part * ${teamRows / split}u + lane / ${sharers}u;
  let own_block = team * ${rowBlocks}u + local / ${SIDE}u;
  let row = min(first + own_block / ${packed}u * ${SIDE}u, params.rows - ${SIDE}u) + local % ${SIDE}u;`;
}

/** Reads this thread's vectors of `columns` rows from `base` on into registers `name0…`; rows past `end` are `end`. */
export function readRows(
  plan: MatrixPlan,
  name: string,
  array: string,
  base: string,
  end: string,
  heads: string,
  head: string,
): string {
  const { columns, rowVectors, threads } = plan;
  return lines(
    (columns * rowVectors) / threads,
    (i) =>
      `${name}${i} = ${array}[(min(${base} + index / ROW + ${(i * threads) / rowVectors}u, ${end}) * ${heads} + ${head}) * ROW + index % ROW];`,
  );
}

/** Declares the registers of `readRows`. */
export function rowRegisters(plan: MatrixPlan, name: string): string {
  return lines((plan.columns * plan.rowVectors) / plan.threads, (i) => `var ${name}${i}: vec4<u32>;`);
}

/** Puts those registers into a tile. */
export function keepRows(plan: MatrixPlan, name: string, tile: string): string {
  const { columns, rowVectors, threads, tileStride } = plan;
  return lines(
    (columns * rowVectors) / threads,
    (i) => `${tile}[(index / ROW + ${(i * threads) / rowVectors}u) * ${tileStride}u + index % ROW] = ${name}${i};`,
  );
}

/** Rows to hold: matrices `name{block}_{depth}` of `array`, staged in the subgroup's part of `sums`. */
export interface HeldRows {
  readonly name: string;
  readonly array: string;
  readonly sums: string;
}

/**
 * The subgroup's part of its rows of some arrays as left matrices `name{block}_{depth}`; `head(b)` is the head of block b.
 * Vectors are read, all at once, and pass through workgroup memory a few matrices at a time: matrices that are read from a
 * tensor where the driver checks bounds come two bytes at a time.
 */
export function heldRows(
  plan: MatrixPlan,
  held: readonly HeldRows[],
  heads: string,
  head: (b: number) => string,
): string {
  const { rowBlocks, depth, stagedDepth, teamRows, scoreStride } = plan;
  const across = stagedDepth * 2; // vectors of a row that pass at a time
  const stride = across + 1;
  const region = `warp * ${teamRows * scoreStride}u`;
  const chunks = depth / stagedDepth;
  const each = (f: (rows: HeldRows) => string): string => held.map(f).join("\n    ");
  /** The lane's row and column of its `i`th vector of a chunk; 16 rows of `across` vectors make `stagedDepth` to a lane. */
  const place = (i: number): { row: string; column: string } => ({
    row: `(lane / ${across}u + ${(i * LANES) / across}u)`,
    column: `lane % ${across}u`,
  });
  const read = ({ name, array }: HeldRows): string =>
    lines(rowBlocks * depth, (x) => {
      const [b, chunk] = [Math.floor(x / depth), Math.floor((x % depth) / stagedDepth)];
      const { row, column } = place(x % stagedDepth);
      return `let ${name}_read${x} = ${array}[held_at${b} + ${row} * (${heads} * ROW) + ${chunk * across}u + ${column}];`;
    });
  const pass = (x: number): string => `${x === 0 ? "" : "workgroupBarrier();"}
    ${each(({ name, sums }) =>
      lines(stagedDepth, (i) => {
        const { row, column } = place(i);
        return `${sums}[${region} + ${row} * ${stride}u + ${column}] = ${name}_read${x * stagedDepth + i};`;
      }),
    )}
    workgroupBarrier();
    ${each(({ name, sums }) =>
      lines(stagedDepth, (i) => {
        const matrix = `${name}${Math.floor(x / chunks)}_${(x % chunks) * stagedDepth + i}`;
        return `${matrix} = subgroupMatrixLoad<${LEFT}, row_major>(&${sums}, ${region} + ${i * 2}u, ${stride}u);`;
      }),
    )}`;
  return `${lines(rowBlocks, (b) => `let held_at${b} = (base${b} * ${heads} + ${head(b)}) * ROW + part * ${depth * 2}u;`)}
  ${each(({ name }) => lines(rowBlocks * depth, (x) => `var ${name}${Math.floor(x / depth)}_${x % depth}: ${LEFT};`))}
  {
    ${each(read)}
    ${lines(rowBlocks * chunks, pass)}
  }`;
}

/** Stores held rows times a tile's rows, `sums[row, column]` of the subgroup's part of head_dim. */
export function products(plan: MatrixPlan, held: string, tile: string, sums: string): string {
  const { rowBlocks, depth, columns, tileStride, teamRows, scoreStride } = plan;
  const across = columns / SIDE;
  return `{
  ${lines(rowBlocks * across, (x) => `var s${Math.floor(x / across)}_${x % across} = ${RESULT}();`)}
  var column: ${RIGHT};
  ${lines(depth * across, (x) => {
    const [d, j] = [Math.floor(x / across), x % across];
    return `column = subgroupMatrixLoad<${RIGHT}, col_major>(&${tile}, ${j * SIDE * tileStride + d * 2}u + part * ${depth * 2}u, ${tileStride}u);
  ${lines(rowBlocks, (b) => `s${b}_${j} = subgroupMatrixMultiplyAccumulate(${held}${b}_${d}, column, s${b}_${j});`)}`;
  })}
  ${lines(rowBlocks * across, (x) => {
    const [b, j] = [Math.floor(x / across), x % across];
    return `subgroupMatrixStore<row_major>(&${sums}, warp * ${teamRows * scoreStride}u + ${b * SIDE * scoreStride + j * 4}u, s${b}_${j}, ${scoreStride}u);`;
  })}
  }`;
}

/** Sum of the team's parts of a product: the lane's quad i of its row, columns `4 * column(i)…`. */
export function quadOf(plan: MatrixPlan, sums: string, i: number): string {
  const { split, teamRows, scoreStride, sharers } = plan;
  return Array.from(
    { length: split },
    (_, s) =>
      `bitcast<vec4<f32>>(${sums}[(team * ${split}u + ${s}u) * ${teamRows * scoreStride}u + local * ${scoreStride}u + share + ${i * sharers}u])`,
  ).join(" + ");
}

/** First column of the lane's quad i. */
export function columnOf(plan: MatrixPlan, i: number): string {
  return `(share * 4u + ${i * plan.sharers * 4}u)`;
}

/** Leaves quad i of the lane's row as f16. */
export function keepQuad(plan: MatrixPlan, weights: string, i: number, value: string): string {
  const { teamRows, weightStride, sharers } = plan;
  return `{
    let half = (team * ${teamRows}u + local) * ${weightStride}u + share + ${i * sharers}u;
    ${weights}[half / 2u][half % 2u * 2u] = pack2x16float(${value}.xy);
    ${weights}[half / 2u][half % 2u * 2u + 1u] = pack2x16float(${value}.zw);
  }`;
}

/** `acc{block}_{depth} += weights * tile`, over the step's columns. */
export function accumulateRows(plan: MatrixPlan, weights: string, tile: string, acc: string): string {
  const { rowBlocks, depth, columns, tileStride, teamRows, weightStride } = plan;
  return `{
  ${lines(rowBlocks, (b) => `var w${b}: ${LEFT};`)}
  var passing: ${RIGHT};
  ${lines(
    columns / SIDE,
    (
      j,
    ) => `${lines(rowBlocks, (b) => `w${b} = subgroupMatrixLoad<${LEFT}, row_major>(&${weights}, (team * ${teamRows}u + ${b * SIDE}u) * ${weightStride / 2}u + ${j * 2}u, ${weightStride / 2}u);`)}
  ${lines(
    depth,
    (
      d,
    ) => `passing = subgroupMatrixLoad<${RIGHT}, row_major>(&${tile}, ${j * SIDE * tileStride + d * 2}u + part * ${depth * 2}u, ${tileStride}u);
  ${lines(rowBlocks, (b) => `${acc}${b}_${d} = subgroupMatrixMultiplyAccumulate(w${b}, passing, ${acc}${b}_${d});`)}`,
  )}`,
  )}
  }`;
}

/** Declares accumulators. */
export function accumulators(plan: MatrixPlan, acc: string): string {
  return lines(plan.rowBlocks, (b) => lines(plan.depth, (d) => `var ${acc}${b}_${d} = ${RESULT}();`));
}

/** Sums `value` (or takes its maximum) over the lanes that share a row. */
export function shared(plan: MatrixPlan, value: string, join: (a: string, b: string) => string): string {
  return lines(
    Math.log2(plan.sharers),
    (i) => `${value} = ${join(value, `subgroupShuffleXor(${value}, ${2 ** i}u)`)};`,
  );
}

/**
 * Writes accumulators times a factor as f16 rows of `array`, by way of the subgroup's own part of `sums`.
 * @param factor WGSL of the factor of row `r` of block b
 */
export function writeRows(
  plan: MatrixPlan,
  acc: string,
  sums: string,
  array: string,
  heads: string,
  head: (b: number) => string,
  factor: (b: number) => string,
): string {
  const { rowBlocks, depth, teamRows, scoreStride } = plan;
  const region = `warp * ${teamRows * scoreStride}u`;
  return lines(
    rowBlocks,
    (b) => `{
  let r = lane / 2u; let half = lane % 2u;
  let factor = ${factor(b)};
  let to = ((base${b} + r) * ${heads} + ${head(b)}) * ROW + part * ${depth * 2}u + half;
  ${lines(
    depth,
    (d) => `workgroupBarrier();
  subgroupMatrixStore<row_major>(&${sums}, ${region}, ${acc}${b}_${d}, ${scoreStride}u);
  workgroupBarrier();
  if (base${b} + r >= wanted${b}) {
    let x = bitcast<vec4<f32>>(${sums}[${region} + r * ${scoreStride}u + half * 2u]) * factor;
    let y = bitcast<vec4<f32>>(${sums}[${region} + r * ${scoreStride}u + half * 2u + 1u]) * factor;
    ${array}[to + ${d * 2}u] = vec4<u32>(pack2x16float(x.xy), pack2x16float(x.zw), pack2x16float(y.xy), pack2x16float(y.zw));
  }`,
  )}
  }`,
  );
}
