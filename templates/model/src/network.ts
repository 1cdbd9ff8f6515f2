/** What the model is around its blocks, and the block. */
import { type AdaptedLinear, type Batch, isTrainable, type LinearSpec, type Tape, type Tensor } from "qlora/core";
import { adaptedLinears, addNorm, type BlockPass, type DecoderOutline, glu, rmsNorm } from "qlora/kernels";

/** What config.json and the options say. */
export interface NetworkConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly numHiddenLayers: number;
  readonly initializerRange: number;
}

/** Norms of a layer, in the order of the forward pass. */
const LAYER_NORMS = ["pre_feedforward_layernorm", "post_feedforward_layernorm"] as const;
type LayerNorm = (typeof LAYER_NORMS)[number];

/** Linears that an adapter may wrap. */
function layerLinears({ hiddenSize, intermediateSize }: NetworkConfig, layer: number): readonly LinearSpec[] {
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
}

/** Every tensor by its name in the checkpoint; norms multiply by 1 + weight and embeddings are scaled, as in Gemma. */
export const networkOutline = (config: NetworkConfig): DecoderOutline<LayerNorm> => ({
  config,
  linears: (layer) => layerLinears(config, layer),
  norms: LAYER_NORMS,
  embeddingScale: Math.sqrt(config.hiddenSize),
  normOffset: 1,
});

/** One layer with its adapted linears. */
export interface Layer {
  readonly gate: AdaptedLinear;
  readonly up: AdaptedLinear;
  readonly down: AdaptedLinear;
  readonly norms: Readonly<Record<LayerNorm, Tensor>>;
  readonly trains: boolean;
}

/** A layer as the adapter has wrapped its linears. */
export function bindLayer(
  linears: ReadonlyMap<string, AdaptedLinear>,
  layer: number,
  norms: Readonly<Record<LayerNorm, Tensor>>,
): Layer {
  const of = (part: string): AdaptedLinear => linears.get(`model.layers.${layer}.mlp.${part}`)!;
  const parts = { gate: of("gate_proj"), up: of("up_proj"), down: of("down_proj") };
  return { ...parts, norms, trains: Object.values(parts).some(isTrainable) };
}

/** h + norm(down(gelu(gate(x)) up(x))), x = norm(h): residual stream h [N,C] f32 -> [N,C] f32. */
export function block(
  tape: Tape,
  h: Tensor,
  { gate, up, down, norms }: Layer,
  { rmsNormEps }: NetworkConfig,
  { batch, training, seed }: BlockPass,
): Tensor {
  const norm = { eps: rmsNormEps, offset: 1 } as const;
  const run = (rows: Batch, x: Tensor, ...linears: AdaptedLinear[]): Tensor[] =>
    adaptedLinears(tape, x, linears, rows, { training, seed });
  const x = rmsNorm(tape, h, norms.pre_feedforward_layernorm, norm);
  const [gated, raised] = run(batch, x, gate, up);
  const activated = glu(tape, gated!, raised!, "gelu_tanh");
  const [lowered] = run(batch, activated, down);
  return addNorm(tape, h, lowered!, norms.post_feedforward_layernorm, norm);
}
