/** A plan needs config.json alone; with the weights there it says the same. */
import { describe, expect, test } from "bun:test";
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { defineConfig, plan } from "../../index.ts";
import { adamW8bit, gemma2, llama, lora } from "../../plugins/index.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";

const parts = { adapter: lora({ rank: 8 }), optimizer: adamW8bit(), device: { memoryBudget: "60GiB" } } as const;

describe("planning without weights", () => {
  test("gives the figures of the checkpoint itself", async () => {
    await using folder = await temporaryFolder();
    await copyFile(join(tinyCheckpoint, "config.json"), join(folder.path, "config.json"));
    const [whole, bare] = [tinyCheckpoint, folder.path].map((checkpoint) =>
      plan(defineConfig({ model: gemma2({ checkpoint }), ...parts }), { on: "nvidia" }),
    );
    const { modes } = await whole!;
    expect(modes.every((row) => "plan" in row && row.plan.figures.peak > 2 ** 20)).toBe(true);
    expect((await bare!).modes).toEqual(modes);
  });

  test("serves every model: Llama-3.1-8B from its config.json", async () => {
    await using folder = await temporaryFolder();
    const config = {
      model_type: "llama",
      vocab_size: 128256,
      hidden_size: 4096,
      intermediate_size: 14336,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      head_dim: 128,
      rms_norm_eps: 1e-5,
      rope_theta: 500000,
      max_position_embeddings: 131072,
      hidden_act: "silu",
      pad_token_id: 128004,
      quantization_config: {
        quant_method: "bitsandbytes",
        load_in_4bit: true,
        bnb_4bit_quant_type: "nf4",
        bnb_4bit_use_double_quant: true,
      },
    };
    await writeFile(join(folder.path, "config.json"), JSON.stringify(config));
    const report = await plan(defineConfig({ model: llama({ checkpoint: folder.path }), ...parts }), { on: "nvidia" });
    const lean = report.modes.find(({ mode }) => mode === "lean")!;
    expect(report.blocks).toBe(32);
    // 6,979,321,856 weights of linears: half a byte each, a byte of absmax for 64, and f32 for 64 * 256.
    const packed = 6979321856 * (1 / 2 + 1 / 64 + 4 / (64 * 256));
    const { weights } = "plan" in lean ? lean.plan.figures.atRest : { weights: 0 };
    expect(weights / packed).toBeGreaterThan(1);
    expect(weights / packed).toBeLessThan(1.02);
  });
});
