import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { parseGemma3Config } from "../../plugins/gemma3/config.ts";
import { parseQwen3Config } from "../../plugins/qwen3/config.ts";

/** google/gemma-3-4b-it's config.json, what is read of it: the text part leaves out what is transformers' default. */
const images = {
  architectures: ["Gemma3ForConditionalGeneration"],
  model_type: "gemma3",
  text_config: {
    hidden_size: 2560,
    intermediate_size: 10240,
    model_type: "gemma3_text",
    num_hidden_layers: 34,
    rope_scaling: { factor: 8.0, rope_type: "linear" },
    sliding_window: 1024,
  },
  torch_dtype: "bfloat16",
  vision_config: { hidden_size: 1152, model_type: "siglip_vision_model" },
};

/** google/gemma-3-1b-it's. */
const text = {
  model_type: "gemma3_text",
  head_dim: 256,
  hidden_activation: "gelu_pytorch_tanh",
  hidden_size: 1152,
  intermediate_size: 6912,
  num_attention_heads: 4,
  num_hidden_layers: 26,
  num_key_value_heads: 1,
  query_pre_attn_scalar: 256,
  rms_norm_eps: 1e-6,
  rope_local_base_freq: 10000,
  rope_scaling: null,
  rope_theta: 1000000,
  sliding_window: 512,
  sliding_window_pattern: 6,
  vocab_size: 262144,
};

test("the text part of a model that also sees images, with what the file leaves out", () => {
  const config = parseGemma3Config(images, "config.json");
  expect(config).toMatchObject({
    prefix: "model.language_model",
    hiddenSize: 2560,
    numAttentionHeads: 8,
    numKeyValueHeads: 4,
    headDim: 256,
    vocabSize: 262208,
    queryPreAttnScalar: 256,
    dtype: "bfloat16",
    rope: { ropeTheta: 1_000_000, ropeScaling: { type: "linear", factor: 8 } },
    localRope: { ropeTheta: 10_000, ropeScaling: { type: "default" } },
  });
  // Layers 6, 12, 18, 24 and 30 see everything, counted from 1.
  expect(config.windows.flatMap((window, layer) => (window === 0 ? [layer + 1] : []))).toEqual([6, 12, 18, 24, 30]);
  expect(new Set(config.windows)).toEqual(new Set([1024, 0]));
});

test("modules that stay in 16 bits are named as tensors are now", () => {
  const quantization = {
    quant_method: "bitsandbytes",
    load_in_4bit: true,
    bnb_4bit_quant_type: "nf4",
    llm_int8_skip_modules: ["vision_tower", "language_model.model.layers.3.mlp", "language_model.lm_head"],
  };
  const config = parseGemma3Config({ ...images, quantization_config: quantization }, "config.json");
  expect(config.quantization!.skipModules).toEqual([
    "model.vision_tower",
    "model.language_model.layers.3.mlp",
    "lm_head",
  ]);
});

test("a text model, and both spellings of its RoPE", () => {
  const config = parseGemma3Config(text, "config.json");
  const { rope_theta: _, rope_local_base_freq: __, rope_scaling: ___, sliding_window_pattern: ____, ...rest } = text;
  const modern = {
    ...rest,
    layer_types: Array.from({ length: 26 }, (_unused, i) => (i % 6 === 5 ? "full_attention" : "sliding_attention")),
    rope_parameters: {
      full_attention: { rope_theta: 1_000_000, rope_type: "default" },
      sliding_attention: { rope_theta: 10_000, rope_type: "default" },
    },
  };
  expect(parseGemma3Config(modern, "config.json")).toEqual(config);
  expect(config.prefix).toBe("model");
  expect(config.windows.slice(0, 7)).toEqual([512, 512, 512, 512, 512, 0, 512]);
});

describe("a wrong config.json is a ModelError that says what", () => {
  for (const [json, says] of [
    [{ ...text, model_type: "gemma2" }, 'model_type is "gemma2", expected one of gemma3_text, gemma3'],
    [{ ...images, text_config: [] }, "text_config is [], expected an object"],
    [{ ...text, sliding_window: null }, "sliding_window is null"],
    [{ ...text, use_bidirectional_attention: true }, "use_bidirectional_attention is true, expected false"],
    [{ ...text, rope_scaling: { rope_type: "yarn", factor: 2 } }, 'RoPE scaling "yarn" is not supported'],
    [{ ...text, rope_local_base_freq: 0 }, "rope_theta is 0, expected a positive number"],
    [{ ...text, layer_types: ["chunked_attention"] }, "layer_types is"],
    [{ ...text, hidden_activation: "silu" }, 'hidden_activation is "silu", expected "gelu_pytorch_tanh"'],
  ] as const) {
    test(says, () => {
      expect(() => parseGemma3Config(json, "dir/config.json")).toThrow(ModelError);
      expect(() => parseGemma3Config(json, "dir/config.json")).toThrow(says);
    });
  }

  test("Qwen3: another architecture, another activation, scaling that is not read", () => {
    const qwen = { ...text, model_type: "qwen3", sliding_window: null };
    expect(() => parseQwen3Config({ ...qwen, model_type: "qwen3_moe" }, "c")).toThrow('"qwen3_moe", expected "qwen3"');
    expect(() => parseQwen3Config({ ...qwen, hidden_act: "gelu" }, "c")).toThrow(
      'hidden_act is "gelu", expected "silu"',
    );
    const yarn = { ...qwen, rope_scaling: { rope_type: "yarn", factor: 4 } };
    expect(() => parseQwen3Config(yarn, "c")).toThrow('RoPE scaling "yarn" is not supported');
  });
});
