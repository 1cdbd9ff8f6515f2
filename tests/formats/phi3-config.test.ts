import { describe, expect, test } from "bun:test";
import { ModelError } from "../../core/errors.ts";
import { parsePhi3Config } from "../../plugins/phi3/config.ts";
import { phi3Outline } from "../../plugins/phi3/outline.ts";
import { phi3Frequencies } from "../../plugins/phi3/rope.ts";
import { expectClose } from "../support/close.ts";

/** The fields of microsoft/Phi-4-mini-instruct's config.json that are read; its factors stand for 48 of each. */
const mini = {
  model_type: "phi3",
  attention_bias: false,
  embd_pdrop: 0.0,
  hidden_act: "silu",
  hidden_size: 3072,
  intermediate_size: 8192,
  max_position_embeddings: 131072,
  num_attention_heads: 24,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  original_max_position_embeddings: 4096,
  partial_rotary_factor: 0.75,
  resid_pdrop: 0.0,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    long_factor: Array.from({ length: 48 }, (_, j) => 1 + j),
    short_factor: Array.from({ length: 48 }, (_, j) => 1 + j / 100),
    type: "longrope",
  },
  rope_theta: 10000.0,
  sliding_window: 262144,
  vocab_size: 200064,
};

test("Phi-4-mini: fused linears, 96 of 128 columns turned, longrope's short factors", () => {
  const config = parsePhi3Config(mini, "config.json");
  const { linears } = phi3Outline(config, 2);
  expect(linears.slice(0, 4).map(({ name, outFeatures, inFeatures }) => [name, outFeatures, inFeatures])).toEqual([
    ["model.layers.0.self_attn.o_proj", 3072, 3072],
    ["model.layers.0.self_attn.qkv_proj", 3072 + 2 * 1024, 3072],
    ["model.layers.0.mlp.gate_up_proj", 16384, 3072],
    ["model.layers.0.mlp.down_proj", 3072, 8192],
  ]);
  const { rope, windows } = config;
  expect(new Set(windows)).toEqual(new Set([262144]));
  expect(rope).toMatchObject({ rotaryDim: 96, maxPositions: 4096 });
  // sqrt(1 + ln(131072 / 4096) / ln(4096)) = sqrt(1 + 5 / 12)
  expect(rope.attentionFactor).toBeCloseTo(Math.sqrt(17 / 12), 12);
  // 1 / short * 10000^(-2j / 96): j = 0 is 1; j = 24 is 1 / 1.24 of a hundredth.
  const frequencies = phi3Frequencies(rope);
  expect(frequencies).toHaveLength(48);
  expectClose([frequencies[0]!, frequencies[24]!], [1, 0.01 / 1.24], { rtol: 1e-7 });
});

test("both spellings, the first name of longrope, and none of it", () => {
  const config = parsePhi3Config(mini, "config.json");
  const { rope_scaling: scaling, rope_theta, partial_rotary_factor, original_max_position_embeddings, ...rest } = mini;
  const parameters = {
    ...scaling,
    rope_type: "longrope",
    rope_theta,
    partial_rotary_factor,
    original_max_position_embeddings,
  };
  expect(parsePhi3Config({ ...rest, rope_parameters: parameters }, "c")).toEqual(config);
  expect(parsePhi3Config({ ...mini, rope_scaling: { ...scaling, type: "su" } }, "c")).toEqual(config);
  const plain = parsePhi3Config(
    { ...mini, rope_scaling: null, partial_rotary_factor: undefined, sliding_window: null },
    "c",
  );
  expect(plain.rope).toEqual({
    ropeTheta: 10000,
    rotaryDim: 128,
    shortFactor: undefined,
    attentionFactor: 1,
    maxPositions: Infinity,
  });
  expect(new Set(plain.windows)).toEqual(new Set([0]));
});

describe("a wrong config.json is a ModelError that says what", () => {
  const { rope_scaling: scaling } = mini;
  for (const [json, says] of [
    [{ ...mini, model_type: "phi" }, 'model_type is "phi", expected "phi3"'],
    [{ ...mini, model_type: "phimoe" }, 'model_type is "phimoe", expected "phi3"'],
    [
      { ...mini, rope_scaling: { ...scaling, type: "yarn" } },
      'RoPE scaling "yarn" is not supported, expected default or longrope',
    ],
    [
      { ...mini, rope_scaling: { ...scaling, short_factor: [1, 2] } },
      "short_factor is [1,2], expected 48 positive numbers",
    ],
    [{ ...mini, original_max_position_embeddings: undefined }, "original_max_position_embeddings is missing"],
    [{ ...mini, partial_rotary_factor: 2 }, "partial_rotary_factor is 2, expected a number of up to 1"],
    [{ ...mini, resid_pdrop: 0.1 }, "resid_pdrop is 0.1, expected 0"],
    [{ ...mini, attention_bias: true }, "attention_bias is true, expected false"],
  ] as const) {
    test(says, () => {
      expect(() => parsePhi3Config(json, "dir/config.json")).toThrow(ModelError);
      expect(() => parsePhi3Config(json, "dir/config.json")).toThrow(says);
    });
  }
});
