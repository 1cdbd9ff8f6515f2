import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { scaledFrequencies } from "../../kernels/rope/scaling.ts";
import { parseLlamaConfig } from "../../plugins/llama/config.ts";
import { llamaOutline } from "../../plugins/llama/outline.ts";
import { expectClose } from "../support/close.ts";

/** The fields of meta-llama/Llama-3.1-8B's config.json that are read, in the spelling of 2024. */
const llama31 = {
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 4096,
  intermediate_size: 14336,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 500000.0,
  vocab_size: 128256,
};
const mistral = { ...llama31, model_type: "mistral", rope_scaling: null, sliding_window: 4096 };
const qwen = { ...llama31, model_type: "qwen2", rope_scaling: null, sliding_window: 131072, max_window_layers: 28 };

test("Llama 3.1's frequencies: short wavelengths as they are, long ones by the factor", () => {
  const { headDim, ropeTheta, ropeScaling, biased, windows } = parseLlamaConfig(llama31, "config.json");
  expect({ headDim, biased, windows: new Set(windows) }).toEqual({ headDim: 128, biased: [], windows: new Set([0]) });
  const frequencies = scaledFrequencies(headDim, { ropeTheta, ropeScaling });
  // j = 0: 1; j = 63: 500000^(-126/128) / 8; j = 32: sqrt(1/500000) = 0.00141421 turns 1.843848 times in 8192, so
  // smooth = 0.281283 and the frequency is 0.00141421 * (0.718717 / 8 + 0.281283).
  expectClose([frequencies[0]!, frequencies[32]!, frequencies[63]!], [1, 5.248462e-4, 3.068926e-7], { rtol: 2e-6 });
  expectClose([scaledFrequencies(128, { ropeTheta: 10000, ropeScaling: { type: "linear", factor: 4 } })[0]!], [0.25], {
    rtol: 1e-7,
  });
});

test("the table of Llama 3.1 8B counts its parameters", () => {
  const { baseParameters } = llamaOutline(parseLlamaConfig(llama31, "config.json"), 3);
  const count = baseParameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  // 8,030,261,248 with the language model's head of 128256 x 4096, for which a score of 3 x 4096 stands here.
  expect(count).toBe(8_030_261_248 - 128256 * 4096 + 3 * 4096);
});

test("biases and windows by architecture", () => {
  expect(parseLlamaConfig({ ...llama31, attention_bias: true, mlp_bias: true }, "c").biased).toHaveLength(7);
  expect(parseLlamaConfig(mistral, "c").windows).toEqual(Array.from({ length: 32 }, () => 4096));
  expect(new Set(parseLlamaConfig({ ...mistral, sliding_window: null }, "c").windows)).toEqual(new Set([0]));
  const off = parseLlamaConfig({ ...qwen, use_sliding_window: false }, "c");
  expect(off.biased).toEqual(["q_proj", "k_proj", "v_proj"]);
  expect(new Set(off.windows)).toEqual(new Set([0]));
  const on = parseLlamaConfig({ ...qwen, use_sliding_window: true }, "c").windows;
  expect([on[27], on[28]]).toEqual([0, 131072]);
});

describe("a wrong config.json is a ModelError that says what", () => {
  for (const [json, says] of [
    [{ ...llama31, model_type: "gpt2" }, 'model_type is "gpt2", expected one of llama, mistral, qwen2'],
    [{ ...llama31, hidden_act: "gelu" }, 'hidden_act is "gelu", expected "silu"'],
    [{ ...llama31, rope_scaling: { rope_type: "yarn" } }, 'RoPE scaling "yarn" is not supported'],
    [{ ...llama31, rope_scaling: { rope_type: "linear" } }, "rope_scaling.factor is missing"],
    [{ ...llama31, num_key_value_heads: 5 }, "num_attention_heads 32 is no multiple of num_key_value_heads 5"],
    [{ ...llama31, hidden_size: 4095, head_dim: 128 }, "hidden_size is 4095, expected an even number"],
    [{ ...llama31, head_dim: 126 }, "head_dim is 126, expected a multiple of 4 up to 256"],
    [{ ...llama31, hidden_size: 0 }, "hidden_size is 0, expected a positive whole number"],
    [{ ...mistral, sliding_window: 0 }, "sliding_window is 0"],
  ] as const) {
    test(says, () => {
      expect(() => parseLlamaConfig(json, "dir/config.json")).toThrow(ModelError);
      expect(() => parseLlamaConfig(json, "dir/config.json")).toThrow(says);
    });
  }
});
