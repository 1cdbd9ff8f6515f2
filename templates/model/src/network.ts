/** The frozen weights on the GPU, and the forward pass on a packed batch. */
import {
  type AdaptedLinear,
  type Batch,
  isTrainable,
  type ForwardOptions,
  type Gpu,
  type LinearSpec,
  type LoadProgress,
  type Nf4Weight,
  type Parameter,
  readFloats,
  runBlocks,
  type Tape,
  type Tensor,
  type TensorSource,
  TensorStream,
} from "qlora/core";
import {
  adaptedLinears,
  addNorm,
  freeNf4,
  glu,
  scoreHead,
  loadNf4,
  loadTokenTable,
  rmsNorm,
  type TokenTable,
} from "qlora/kernels";
import { meanPool } from "./mean-pool.ts";

/** What config.json and the options say. */
export interface NetworkConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly blocks: number;
}

/** Frozen weights. */
interface Weights {
  readonly embedding: TokenTable;
  /** By name: [C] f32. */
  readonly norms: ReadonlyMap<string, Tensor>;
  readonly linears: ReadonlyMap<string, Nf4Weight>;
  free(): void;
}

/** Linears that an adapter may wrap. */
export function networkLinears({ blocks, hiddenSize, intermediateSize }: NetworkConfig): readonly LinearSpec[] {
  return Array.from({ length: blocks }, (_, layer) => {
    const make = (part: string, inFeatures: number, outFeatures: number): LinearSpec => ({
      name: `model.layers.${layer}.mlp.${part}`,
      layer,
      inFeatures,
      outFeatures,
    });
    return [
      make("gate_proj", hiddenSize, intermediateSize),
      make("up_proj", hiddenSize, intermediateSize),
      make("down_proj", intermediateSize, hiddenSize),
    ];
  }).flat();
}

const normNames = ({ blocks }: NetworkConfig): readonly string[] => [
  ...Array.from({ length: blocks }, (_, layer) => [
    `model.layers.${layer}.pre_feedforward_layernorm.weight`,
    `model.layers.${layer}.post_feedforward_layernorm.weight`,
  ]).flat(),
  "model.norm.weight",
];

/** Streams what the network needs to the GPU. @throws ModelError naming the tensor that is missing or misshapen */
export async function loadNetwork(
  gpu: Gpu,
  files: TensorSource,
  config: NetworkConfig,
  onProgress?: LoadProgress,
): Promise<Weights> {
  const { hiddenSize, vocabSize } = config;
  const specs = networkLinears(config);
  const wanted = ["model.embed_tokens.weight", ...normNames(config), ...specs.map(({ name }) => `${name}.weight`)];
  const stream = new TensorStream(gpu, files, onProgress, (name) => wanted.some((start) => name.startsWith(start)));
  const scale = Math.sqrt(hiddenSize); // as Gemma scales its embeddings
  const table = { vocabSize, hiddenSize, scale, place: "device", stream } as const;
  const embedding = await loadTokenTable(gpu, files, table);
  const linears = new Map<string, Nf4Weight>();
  for (const spec of specs) linears.set(spec.name, { ...(await loadNf4(gpu, stream, spec)), rounding: "f32" });
  const norms = new Map<string, Tensor>();
  for (const name of normNames(config)) {
    const values = await readFloats(files, name, [hiddenSize]);
    norms.set(name, gpu.upload(values, [hiddenSize], "f32", name, "weights"));
    await stream.account(values.byteLength);
  }
  await stream.finish();
  const free = (): void => {
    embedding.free();
    for (const tensor of norms.values()) gpu.free(tensor);
    for (const weight of linears.values()) freeNf4(gpu, weight);
  };
  return { embedding, norms, linears, free };
}

/** All that the forward pass reads. */
export interface Network {
  readonly config: NetworkConfig;
  readonly weights: Weights;
  readonly adapted: ReadonlyMap<string, AdaptedLinear>;
  readonly score: Parameter;
  readonly seed: number;
}

/** [B,L] f32 logits. */
export function networkForward(tape: Tape, network: Network, batch: Batch, options: ForwardOptions): Tensor {
  const { config, weights, score } = network;
  const embedded = tape.alloc([batch.tokens, config.hiddenSize], "f32", "hidden states");
  weights.embedding.lookup(batch, embedded);
  const blocks = Array.from({ length: config.blocks }, (_, layer) => {
    const parts = ["gate_proj", "up_proj", "down_proj"].map((part) =>
      network.adapted.get(`model.layers.${layer}.mlp.${part}`)!,
    );
    const forward = (inner: Tape, h: Tensor): Tensor => block(inner, h, layer, parts, network, batch, options.training);
    return { trains: parts.some(isTrainable), forward };
  });
  const h = runBlocks(tape, embedded, blocks, options);
  const mean = meanPool(tape, h, batch.segments, batch.lastTokens);
  tape.release(h);
  const norm = weights.norms.get("model.norm.weight")!;
  const normed = rmsNorm(tape, mean, norm, { eps: config.rmsNormEps, offset: 1, dtype: "f32" });
  return scoreHead(tape, normed, score);
}

/** h + norm(down(gelu(gate(x)) up(x))), x = norm(h): residual stream h [N,C] f32 -> [N,C] f32. */
function block(
  tape: Tape,
  h: Tensor,
  layer: number,
  [gate, up, down]: readonly AdaptedLinear[],
  { config, weights, seed }: Network,
  batch: Batch,
  training: boolean,
): Tensor {
  const norm = { eps: config.rmsNormEps, offset: 1 } as const;
  const weight = (name: string): Tensor => weights.norms.get(`model.layers.${layer}.${name}.weight`)!;
  const run = (x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, batch, { training, seed });
  const x = rmsNorm(tape, h, weight("pre_feedforward_layernorm"), norm);
  const [gated, raised] = run(x, gate!, up!);
  const activated = glu(tape, gated!, raised!, "gelu_tanh");
  const [lowered] = run(activated, down!);
  return addNorm(tape, h, lowered!, weight("post_feedforward_layernorm"), norm);
}
