/** Jobs of the large products: a block's linears, forward and input gradients, and their variants. */
import type { Tensor } from "../../core/device/tensor.ts";
import {
  gemm,
  type GemmOptions,
  type GemmTerm,
  type MatmulVariant,
  operandLayout,
  packLeft,
  planTiles,
  type Tiling,
  TUNING,
} from "../../kernels/matmul-matrix/index.ts";
import { randomTensor, sampleError, toImage } from "./data.ts";
import type { Result, Session } from "./session.ts";
import { BLOCKS, groupsOf, linearsOf } from "./shapes.ts";

const RANK = 64;
/** Rows behind the last token, which no kernel may touch. */
const BEHIND = 64;

/** Sum of products `[tokens, depths[i]] x [depths[i], columns]`. */
export interface Problem {
  readonly section: string;
  readonly name: string;
  readonly tokens: number;
  readonly columns: number;
  readonly depths: readonly number[];
  /** Depth of a low-rank term beside them, whose operations are not counted: they are the price of LoRA. */
  readonly rank?: number;
  /** The first left operand lies as an image. */
  readonly packed?: boolean;
  readonly options?: GemmOptions;
}

/** Measures one product, checked against f32. */
export async function product(session: Session, problem: Problem): Promise<Result | undefined> {
  const { tokens, columns, depths, rank = 0, options = {} } = problem;
  const { gpu } = session;
  const all = [...depths, ...(rank > 0 ? [rank] : [])];
  const terms: GemmTerm[] = all.map((depth) => ({
    a: randomTensor(gpu, [tokens, depth]),
    b: randomTensor(gpu, [depth, columns]),
  }));
  const layout = options.layout ?? operandLayout(gpu, columns, depths.length);
  const operands = layout === "rows" ? terms : terms.map(({ a, b }) => ({ a, b: toImage(gpu, b) }));
  const packed = problem.packed === true ? packLeft(gpu, terms[0]!.a) : undefined;
  const whole = gpu.alloc([tokens + BEHIND, columns], "f16", "c");
  const c: Tensor = { ...whole, shape: [tokens, columns] };
  const behind: Tensor = { ...whole, part: true, offset: tokens * columns * 2, shape: [BEHIND, columns] };
  const result = await session.run({
    section: problem.section,
    name: problem.name,
    tokens,
    flops: 2 * tokens * columns * depths.reduce((a, b) => a + b, 0),
    launch: () =>
      gemm(
        gpu,
        operands.map((term, i) => (i === 0 ? { ...term, packed } : term)),
        c,
        { ...options, layout },
      ),
    check: () =>
      sampleError(
        gpu,
        terms.map(({ a, b }, i) => ({
          a,
          aLayout: { row: all[i]!, depth: 1 },
          b,
          bLayout: { row: 1, depth: columns },
          depth: all[i]!,
        })),
        c,
        { rows: tokens, columns, layout: { row: columns, depth: 1 } },
      ),
    outputs: [{ written: c, behind }],
  });
  const images = layout === "rows" ? [] : operands.map(({ b }) => b);
  await session.drop(
    ...terms.flatMap(({ a, b }) => [a, b]),
    ...images,
    ...(packed === undefined ? [] : [packed]),
    whole,
  );
  return result;
}

/** Every linear of a block, forward and backward, at one number of tokens. */
export async function block(session: Session, model: keyof typeof BLOCKS, tokens: number): Promise<void> {
  for (const { name, inFeatures, outFeatures } of linearsOf(BLOCKS[model])) {
    await product(session, { section: `forward ${model}`, name, tokens, columns: outFeatures, depths: [inFeatures] });
  }
  for (const { name, inFeatures, outFeatures } of groupsOf(BLOCKS[model])) {
    await product(session, { section: `gradient ${model}`, name, tokens, columns: inFeatures, depths: outFeatures });
  }
}

/** The same with LoRA: its forward term, and the masked part of the gradient added in. */
export async function blockWithLora(session: Session, tokens: number): Promise<void> {
  for (const { name, inFeatures, outFeatures } of linearsOf(BLOCKS["9b"])) {
    if (name === "down") continue;
    await product(session, {
      section: "forward + lora 9b",
      name,
      tokens,
      columns: outFeatures,
      depths: [inFeatures],
      rank: RANK,
    });
  }
  for (const { name, inFeatures, outFeatures, adapted } of groupsOf(BLOCKS["9b"])) {
    if (adapted === 0) continue;
    const problem = { tokens, columns: inFeatures, depths: outFeatures };
    await product(session, { section: "gradient + lora 9b (p = 0)", name, ...problem, rank: RANK * adapted });
  }
}

const tilingNamed = (name: string): Tiling => TUNING.tilings.find((t) => t.name === name)!;
const tall: Tiling = { name: "tall", rows: 256, columns: 128, subgroupRows: 64, subgroupColumns: 64, efficiency: 1 };
const rows: Partial<GemmOptions> = { layout: "rows" };
const whole = (tiles: number): { full: number; tail: number; parts: number } => ({ full: tiles, tail: 0, parts: 1 });

/** Choices whose best answer only a measurement gives; `planned` is what ships. */
const VARIANTS: readonly (readonly [name: string, options: GemmOptions])[] = [
  ["planned", {}],
  ["rows", rows],
  ["no split tail", { plan: whole }],
  ...([2, 4] as const).map((parts): [string, GemmOptions] => [
    `tail in ${parts}`,
    {
      plan: (tiles) => ({
        full: tiles - (tiles % TUNING.multiprocessors),
        tail: tiles % TUNING.multiprocessors,
        parts,
      }),
    },
  ]),
  ...(
    [
      ["late B", { loadB: "late" }],
      ["2 blocks between", { between: 2 }],
      ["3 blocks between", { between: 3 }],
      ["group 4", { group: 4 }],
      ["group 12", { group: 12 }],
    ] as [string, Partial<MatmulVariant>][]
  ).map(([name, variant]): [string, GemmOptions] => [name, { variant, plan: whole, ...rows }]),
  ["tall 256 x 128", { tiling: tall, plan: whole, ...rows }],
  ["medium 128 x 128", { tiling: tilingNamed("medium"), plan: whole, ...rows }],
];

/** Variants over the shapes that differ most. */
export async function variants(session: Session): Promise<void> {
  const { hidden, intermediate } = BLOCKS["9b"];
  const problems = [
    { name: "up, 4096", tokens: 4096, columns: intermediate, depths: [hidden] },
    { name: "down, 8192", tokens: 8192, columns: hidden, depths: [intermediate] },
    { name: "o, 2048", tokens: 2048, columns: hidden, depths: [4096] },
    { name: "dX q,k,v, 4096", tokens: 4096, columns: hidden, depths: [4096, 2048, 2048] },
  ];
  for (const [variant, options] of VARIANTS) {
    for (const { name, ...problem } of problems) {
      await product(session, { section: `variant: ${variant}`, name, ...problem, options });
    }
  }
  // A split tail for the part-empty waves of few tokens.
  for (const tokens of [1900, 2048, 4096]) {
    for (const [variant, options] of VARIANTS.slice(0, 4)) {
      await product(session, {
        section: `tail, ${tokens}: ${variant}`,
        name: "down",
        tokens,
        columns: hidden,
        depths: [intermediate],
        options,
      });
    }
  }
}

/** Where images and their tiles win. */
export async function relayVariants(session: Session): Promise<void> {
  const { hidden, intermediate } = BLOCKS["9b"];
  const tokens = 8192;
  const problems: Omit<Problem, "section">[] = [
    { name: "up", tokens, columns: intermediate, depths: [hidden] },
    { name: "down", tokens, columns: hidden, depths: [intermediate] },
    { name: "gate+lora", tokens, columns: intermediate, depths: [hidden], rank: RANK },
    { name: "o+lora", tokens, columns: hidden, depths: [4096], rank: RANK },
    { name: "dX g,u", tokens, columns: hidden, depths: [intermediate, intermediate] },
    { name: "dX q,k,v", tokens, columns: hidden, depths: [4096, 2048, 2048] },
    { name: "dX q,k,v 2048", tokens: 2048, columns: hidden, depths: [4096, 2048, 2048] },
  ];
  const ways: [string, GemmOptions][] = [
    ["rows, wide", { layout: "rows" }],
    ["image, wide", { layout: "image", tiling: tilingNamed("wide") }],
    ["image, relay", { layout: "image" }],
  ];
  for (const problem of problems) {
    for (const [how, options] of ways) {
      await product(session, { ...problem, section: `relay: ${how}`, options: { plan: whole, ...options } });
    }
    const options: GemmOptions = { layout: "image", plan: whole };
    await product(session, { ...problem, section: "relay: left packed", packed: true, options });
    await packing(session, tokens, problem.depths[0]!);
  }
}

/** Packing a left operand. */
async function packing(session: Session, tokens: number, depth: number): Promise<void> {
  const { gpu } = session;
  const a = randomTensor(gpu, [tokens, depth]);
  await session.run({
    section: "packing a left operand",
    name: `${depth} deep`,
    tokens,
    bytes: 4 * tokens * depth,
    launch: () => gpu.free(packLeft(gpu, a)),
  });
  await session.drop(a);
}

/** Tilings for few tokens: where each one wins. */
export async function fewTokens(session: Session): Promise<void> {
  for (const tokens of [64, 256, 512, 1024]) {
    for (const [name, columns, depth] of [
      ["q", 4096, 3584],
      ["down", 3584, 14336],
    ] as const) {
      for (const tiling of TUNING.tilings) {
        const plan = (tiles: number) => planTiles(tiling, tiles, [depth]);
        await product(session, {
          section: `few tokens: ${tiling.name}`,
          name,
          tokens,
          columns,
          depths: [depth],
          options: { tiling, plan, layout: tiling.relay === true ? "image" : "rows" },
        });
      }
    }
  }
}
