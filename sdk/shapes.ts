/** config.json of published models, what is read of it: `--shape` of bench and plan names them, with random weights. */

/** Values of `--shape` beside `tiny`. */
export const SHAPE_NAMES = [
  "gemma2-2b",
  "gemma2-9b",
  "gemma2-27b",
  "gemma3-270m",
  "gemma3-1b",
  "gemma3-4b",
  "gemma3-12b",
  "gemma3-27b",
  "llama3-1b",
  "llama3-3b",
  "llama3-8b",
  "llama3-70b",
  "llama3-405b",
  "mistral-7b",
  "mistral-nemo-12b",
  "mistral-small-24b",
  "phi3-mini",
  "phi3-medium",
  "phi4-mini",
  "phi4-14b",
  "qwen2.5-0.5b",
  "qwen2.5-1.5b",
  "qwen2.5-3b",
  "qwen2.5-7b",
  "qwen2.5-14b",
  "qwen2.5-32b",
  "qwen2.5-72b",
  "qwen3-0.6b",
  "qwen3-1.7b",
  "qwen3-4b",
  "qwen3-8b",
  "qwen3-14b",
  "qwen3-32b",
] as const;

/** A published shape. */
export type ShapeName = (typeof SHAPE_NAMES)[number];

/** The type of the option `shape`. */
export const SHAPE_TYPE = ["tiny", ...SHAPE_NAMES].map((name) => `'${name}'`).join(" | ") as `'tiny' | '${ShapeName}'`;

type Json = Readonly<Record<string, unknown>>;
type Sizes = readonly [
  hidden: number,
  intermediate: number,
  layers: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  vocab: number,
];

const sized = ([hidden, intermediate, layers, heads, kvHeads, headDim, vocab]: Sizes, more: Json): Json => ({
  vocab_size: vocab,
  hidden_size: hidden,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  head_dim: headDim,
  intermediate_size: intermediate,
  torch_dtype: "bfloat16",
  pad_token_id: 0,
  eos_token_id: 1,
  bos_token_id: 2,
  ...more,
});

const gemma2 = (sizes: Sizes, scalar: number): Json =>
  sized(sizes, {
    architectures: ["Gemma2ForCausalLM"],
    model_type: "gemma2",
    query_pre_attn_scalar: scalar,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    sliding_window: 4096,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
    hidden_activation: "gelu_pytorch_tanh",
    max_position_embeddings: 8192,
  });

/** The text part alone, as a text model's config.json has it. */
const gemma3 = (sizes: Sizes, scalar: number, slidingWindow: number, factor?: number): Json =>
  sized(sizes, {
    architectures: ["Gemma3ForCausalLM"],
    model_type: "gemma3_text",
    query_pre_attn_scalar: scalar,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    rope_local_base_freq: 10_000,
    rope_scaling: factor === undefined ? null : { rope_type: "linear", factor },
    sliding_window: slidingWindow,
    sliding_window_pattern: 6,
    hidden_activation: "gelu_pytorch_tanh",
    max_position_embeddings: factor === undefined ? 32_768 : 131_072,
  });

const llama3 = (sizes: Sizes, factor = 8): Json =>
  sized(sizes, {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    rope_scaling: {
      rope_type: "llama3",
      factor,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    hidden_act: "silu",
    max_position_embeddings: 131_072,
  });

const mistral = (sizes: Sizes, theta: number): Json =>
  sized(sizes, {
    architectures: ["MistralForCausalLM"],
    model_type: "mistral",
    rms_norm_eps: 1e-5,
    rope_theta: theta,
    sliding_window: null,
    hidden_act: "silu",
    max_position_embeddings: 32_768,
  });

const qwen = (modelType: "qwen2" | "qwen3", sizes: Sizes): Json =>
  sized(sizes, {
    architectures: [modelType === "qwen2" ? "Qwen2ForCausalLM" : "Qwen3ForCausalLM"],
    model_type: modelType,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    rope_scaling: null,
    use_sliding_window: false,
    attention_bias: modelType === "qwen2",
    hidden_act: "silu",
    max_position_embeddings: 32_768,
  });

/** @param scaled columns of a head that `longrope` turns; its published factors change neither memory nor speed, and are ones here */
const phi3 = (sizes: Sizes, theta: number, scaled?: number, partial = 1): Json =>
  sized(sizes, {
    architectures: ["Phi3ForCausalLM"],
    model_type: "phi3",
    rms_norm_eps: 1e-5,
    rope_theta: theta,
    partial_rotary_factor: partial,
    rope_scaling:
      scaled === undefined
        ? null
        : { type: "longrope", short_factor: Array(scaled / 2).fill(1), long_factor: Array(scaled / 2).fill(1) },
    original_max_position_embeddings: 4096,
    sliding_window: null,
    hidden_act: "silu",
    max_position_embeddings: scaled === undefined ? 16_384 : 131_072,
  });

const SHAPES: Readonly<Record<ShapeName, Json>> = {
  "gemma2-2b": gemma2([2304, 9216, 26, 8, 4, 256, 256_000], 256),
  "gemma2-9b": gemma2([3584, 14_336, 42, 16, 8, 256, 256_000], 256),
  "gemma2-27b": gemma2([4608, 36_864, 46, 32, 16, 128, 256_000], 144),
  "gemma3-270m": gemma3([640, 2048, 18, 4, 1, 256, 262_144], 256, 512),
  "gemma3-1b": gemma3([1152, 6912, 26, 4, 1, 256, 262_144], 256, 512),
  "gemma3-4b": gemma3([2560, 10_240, 34, 8, 4, 256, 262_208], 256, 1024, 8),
  "gemma3-12b": gemma3([3840, 15_360, 48, 16, 8, 256, 262_208], 256, 1024, 8),
  "gemma3-27b": gemma3([5376, 21_504, 62, 32, 16, 128, 262_208], 168, 1024, 8),
  "llama3-1b": llama3([2048, 8192, 16, 32, 8, 64, 128_256], 32),
  "llama3-3b": llama3([3072, 8192, 28, 24, 8, 128, 128_256], 32),
  "llama3-8b": llama3([4096, 14_336, 32, 32, 8, 128, 128_256]),
  "llama3-70b": llama3([8192, 28_672, 80, 64, 8, 128, 128_256]),
  "llama3-405b": llama3([16_384, 53_248, 126, 128, 8, 128, 128_256]),
  "mistral-7b": mistral([4096, 14_336, 32, 32, 8, 128, 32_768], 1_000_000),
  "mistral-nemo-12b": mistral([5120, 14_336, 40, 32, 8, 128, 131_072], 1_000_000),
  "mistral-small-24b": mistral([5120, 32_768, 40, 32, 8, 128, 131_072], 100_000_000),
  "phi3-mini": phi3([3072, 8192, 32, 32, 32, 96, 32_064], 10_000, 96),
  "phi3-medium": phi3([5120, 17_920, 40, 40, 10, 128, 32_064], 10_000, 128),
  "phi4-mini": phi3([3072, 8192, 32, 24, 8, 128, 200_064], 10_000, 96, 0.75),
  "phi4-14b": phi3([5120, 17_920, 40, 40, 10, 128, 100_352], 250_000),
  "qwen2.5-0.5b": qwen("qwen2", [896, 4864, 24, 14, 2, 64, 151_936]),
  "qwen2.5-1.5b": qwen("qwen2", [1536, 8960, 28, 12, 2, 128, 151_936]),
  "qwen2.5-3b": qwen("qwen2", [2048, 11_008, 36, 16, 2, 128, 151_936]),
  "qwen2.5-7b": qwen("qwen2", [3584, 18_944, 28, 28, 4, 128, 152_064]),
  "qwen2.5-14b": qwen("qwen2", [5120, 13_824, 48, 40, 8, 128, 152_064]),
  "qwen2.5-32b": qwen("qwen2", [5120, 27_648, 64, 40, 8, 128, 152_064]),
  "qwen2.5-72b": qwen("qwen2", [8192, 29_568, 80, 64, 8, 128, 152_064]),
  "qwen3-0.6b": qwen("qwen3", [1024, 3072, 28, 16, 8, 128, 151_936]),
  "qwen3-1.7b": qwen("qwen3", [2048, 6144, 28, 16, 8, 128, 151_936]),
  "qwen3-4b": qwen("qwen3", [2560, 9728, 36, 32, 8, 128, 151_936]),
  "qwen3-8b": qwen("qwen3", [4096, 12_288, 36, 32, 8, 128, 151_936]),
  "qwen3-14b": qwen("qwen3", [5120, 17_408, 40, 40, 8, 128, 151_936]),
  "qwen3-32b": qwen("qwen3", [5120, 25_600, 64, 64, 8, 128, 151_936]),
};

/** How many layers, and how they are stored. */
interface ShapeForm {
  /** Default: as published. */
  readonly layers?: number | undefined;
  /** Default nf4, double-quantized. */
  readonly dtype?: "nf4" | "bf16" | undefined;
}

/** config.json of a shape. */
export function syntheticConfigJson(
  shape: ShapeName,
  { layers, dtype = "nf4" }: ShapeForm = {},
): Record<string, unknown> {
  return {
    ...SHAPES[shape],
    ...(layers === undefined ? {} : { num_hidden_layers: layers }),
    ...(dtype === "nf4" && {
      quantization_config: {
        quant_method: "bitsandbytes",
        load_in_4bit: true,
        bnb_4bit_quant_type: "nf4",
        bnb_4bit_use_double_quant: true,
        bnb_4bit_compute_dtype: "bfloat16",
      },
    }),
  };
}
