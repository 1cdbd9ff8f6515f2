import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { readModelConfig } from "../../core/formats/checkpoint.ts";
import { parseGemma2Config } from "../../plugins/gemma2/config.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { looseConfig } from "./malformed.ts";

/** The 9B instruction-tuned checkpoint's file in the spelling of 2024, as quantized for four bits. */
const nineBillion = {
  architectures: ["Gemma2ForCausalLM"],
  attention_bias: false,
  attention_dropout: 0.0,
  attn_logit_softcapping: 50.0,
  bos_token_id: 2,
  cache_implementation: "hybrid",
  eos_token_id: 1,
  final_logit_softcapping: 30.0,
  head_dim: 256,
  hidden_act: "gelu_pytorch_tanh",
  hidden_activation: "gelu_pytorch_tanh",
  hidden_size: 3584,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 8192,
  model_type: "gemma2",
  num_attention_heads: 16,
  num_hidden_layers: 42,
  num_key_value_heads: 8,
  pad_token_id: 0,
  quantization_config: {
    _load_in_4bit: true,
    _load_in_8bit: false,
    bnb_4bit_compute_dtype: "bfloat16",
    bnb_4bit_quant_type: "nf4",
    bnb_4bit_use_double_quant: true,
    load_in_4bit: true,
    quant_method: "bitsandbytes",
  },
  query_pre_attn_scalar: 224,
  rms_norm_eps: 1e-6,
  rope_theta: 10000.0,
  sliding_window: 4096,
  torch_dtype: "bfloat16",
  use_cache: true,
  vocab_size: 256000,
};

test("the spelling of transformers 5", async () => {
  const config = parseGemma2Config(await readModelConfig(openFolder(tinyCheckpoint)), "config.json");
  expect(config).toEqual({
    modelType: "gemma2",
    hiddenSize: 128,
    numHiddenLayers: 4,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 32,
    intermediateSize: 512,
    vocabSize: 4096,
    maxPositionEmbeddings: 8192,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    slidingWindow: 64,
    layerTypes: ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    attnLogitSoftcapping: 50,
    queryPreAttnScalar: 32,
    hiddenActivation: "gelu_pytorch_tanh",
    initializerRange: 0.02,
    padTokenId: 0,
    bosTokenId: 2,
    eosTokenId: 1,
    dtype: "bfloat16",
    numLabels: undefined,
    id2label: undefined,
    quantization: { quantType: "nf4", useDoubleQuant: true, computeDtype: "bfloat16", skipModules: [] },
  });
});

test("the spelling of 2024: even layers slide, query_pre_attn_scalar is the file's own", () => {
  const config = parseGemma2Config(nineBillion, "config.json");
  expect(config).toMatchObject({
    hiddenSize: 3584,
    headDim: 256,
    ropeTheta: 10000,
    queryPreAttnScalar: 224,
    attnLogitSoftcapping: 50,
    dtype: "bfloat16",
  });
  expect(config.layerTypes.length).toBe(42);
  expect(config.layerTypes.every((type, i) => type === (i % 2 === 0 ? "sliding_attention" : "full_attention"))).toBe(
    true,
  );
});

test("both spellings of one model give the same config", () => {
  const { layer_types: _, rope_parameters: __, dtype: ___, hidden_activation: ____, ...rest } = looseConfig();
  const old = {
    ...rest,
    rope_theta: 10000,
    rope_scaling: null,
    torch_dtype: "bfloat16",
    hidden_act: "gelu_pytorch_tanh",
  };
  expect(parseGemma2Config(old, "old")).toEqual(parseGemma2Config(looseConfig(), "new"));
});

test("labels, soft-capping off, several end tokens, early hidden_act", () => {
  const config = parseGemma2Config(
    {
      ...nineBillion,
      id2label: { "0": "a", "2": "tie", "1": "b" },
      attn_logit_softcapping: null,
      eos_token_id: [1, 107],
      pad_token_id: null,
      hidden_act: "gelu",
      hidden_activation: null,
      quantization_config: undefined,
    },
    "config.json",
  );
  expect(config).toMatchObject({
    numLabels: 3,
    id2label: ["a", "b", "tie"],
    attnLogitSoftcapping: null,
    eosTokenId: 1,
  });
  expect(config.padTokenId).toBeUndefined();
  expect(config.quantization).toBeUndefined();
});

describe("what cannot be run is a ModelError", () => {
  const failure = (json: Record<string, unknown>): ModelError => {
    try {
      parseGemma2Config(json, "dir/config.json");
    } catch (error) {
      if (error instanceof ModelError) return error;
      throw error;
    }
    throw new Error("expected a ModelError");
  };

  test("all problems together", () => {
    const { hidden_size: _, rope_theta: __, rms_norm_eps: ___, ...rest } = nineBillion;
    const { message, hint } = failure({ ...rest, num_hidden_layers: -1, attention_bias: true });
    expect(message).toBe(
      [
        "dir/config.json:",
        "  - num_hidden_layers is -1, expected a positive whole number",
        "  - hidden_size is missing",
        "  - rms_norm_eps is missing",
        "  - rope_theta is missing",
        "  - attention_bias is true, which is not supported",
      ].join("\n"),
    );
    expect(hint).toBeString();
  });

  const cases: [what: string, change: Record<string, unknown>, says: string][] = [
    ["another model_type", { model_type: "gemma3_text" }, 'model_type is "gemma3_text", expected "gemma2"'],
    ["no model_type", { model_type: undefined }, 'model_type is missing, expected "gemma2"'],
    ["a scaled RoPE of 2024", { rope_scaling: { type: "linear", factor: 2 } }, 'RoPE scaling "linear"'],
    [
      "a scaled RoPE of transformers 5",
      { rope_parameters: { rope_type: "yarn", rope_theta: 1e4 } },
      'RoPE scaling "yarn"',
    ],
    [
      "rope_parameters without theta",
      { rope_parameters: { rope_type: "default" }, rope_theta: undefined },
      "rope_parameters.rope_theta is missing",
    ],
    ["too few layer_types", { layer_types: ["full_attention"] }, "layer_types has 1 entries for 42 layers"],
    ["an unknown layer type", { layer_types: Array(42).fill("chunked") }, 'layer_types holds "chunked"'],
    ["another activation", { hidden_activation: "silu" }, 'hidden_activation is "silu"'],
    [
      "heads that do not group",
      { num_key_value_heads: 5 },
      "num_attention_heads 16 is no multiple of num_key_value_heads 5",
    ],
    ["a fractional size", { vocab_size: 1.5 }, "vocab_size is 1.5, expected a positive whole number"],
    ["a string for a number", { sliding_window: "4096" }, 'sliding_window is "4096"'],
    ["an odd width", { hidden_size: 2305 }, "hidden_size is 2305, expected an even number"],
    ["a head of no multiple of 4", { head_dim: 254 }, "head_dim is 254, expected a multiple of 4 up to 256"],
    ["a head too large", { head_dim: 260 }, "head_dim is 260, expected a multiple of 4 up to 256"],
    ["a token that is a word", { pad_token_id: "<pad>" }, 'pad_token_id is "<pad>"'],
    ["labels with a gap", { id2label: { "0": "a", "2": "b" } }, "id2label is"],
    [
      "another quantization",
      { quantization_config: { quant_method: "gptq", bits: 4 } },
      'quant_method is "gptq", expected "bitsandbytes"',
    ],
    [
      "eight bits",
      { quantization_config: { quant_method: "bitsandbytes", load_in_8bit: true, bnb_4bit_quant_type: "nf4" } },
      "load_in_4bit is missing, expected true",
    ],
    [
      "another type of 4 bits",
      { quantization_config: { load_in_4bit: true, bnb_4bit_quant_type: "int4" } },
      'bnb_4bit_quant_type is "int4", expected "nf4" or "fp4"',
    ],
  ];
  for (const [what, change, says] of cases) {
    test(what, () => {
      const { message } = failure({ ...nineBillion, ...change });
      expect(message).toContain("dir/config.json");
      expect(message).toContain(says);
      // One fault, one problem... but for gptq, which lacks the other keys as well.
      if (!says.includes("gptq")) expect(message).not.toContain("\n");
    });
  }
  test("a Llama checkpoint", async () => {
    const json = await readModelConfig(openFolder(goldenPath("plugins", "tiny-llama-nf4")));
    expect(failure(json)).toMatchObject({ code: "MODEL_TYPE_UNSUPPORTED" });
  });
});
