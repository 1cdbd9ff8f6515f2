import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { qlora, type Ended } from "../support/command-line.ts";

const home = process.cwd();
const root = mkdtempSync(join(tmpdir(), "qlora-presets-"));
beforeAll(() => process.chdir(root));
afterAll(() => {
  process.chdir(home);
  rmSync(root, { recursive: true, force: true });
});

const configOf = ({ code, stdout, stderr }: Ended): Record<string, Record<string, unknown>> => {
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as never;
};

/** The numbers that the two notebooks share. */
const shared = {
  model: { name: "gemma2", options: { checkpoint: "unsloth/gemma-2-9b-it-bnb-4bit", attnLogitSoftcapping: 0 } },
  optimizer: { name: "adamw8bit", options: { adamBeta1: 0.9, adamBeta2: 0.999, adamEpsilon: 1e-8, weightDecay: 0 } },
  metrics: [{ name: "log-loss" }, { name: "accuracy" }],
};
const training = {
  numTrainEpochs: 1,
  lrSchedulerType: "linear",
  warmupSteps: 20,
  maxGradNorm: 1,
  loggingSteps: 10,
  evalStrategy: "epoch",
  seed: 42,
};

describe("presets", () => {
  test("lmsys-seed is the notebook's config", async () => {
    expect(configOf(await qlora("train", "--preset", "lmsys-seed", "--print-config"))).toMatchObject({
      ...shared,
      adapter: {
        name: "lora",
        options: {
          rank: 64,
          alpha: 32,
          dropout: 0.05,
          targetModules: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"],
        },
      },
      data: { format: "arena", maxLength: 1024, nSplits: 100, foldIdx: 0 },
      training: {
        ...training,
        perDeviceTrainBatchSize: 2,
        gradientAccumulationSteps: 16,
        perDeviceEvalBatchSize: 2,
        learningRate: 0.00017,
        saveStrategy: "steps",
        saveSteps: 500,
      },
    });
  });

  test("lmsys-kaggle is the original: layers 16 to 41, 8 rows a step, 5,748 steps", async () => {
    const config = configOf(await qlora("presets", "lmsys-kaggle"));
    expect(config).toMatchObject({
      ...shared,
      adapter: { options: { rank: 16, alpha: 32, dropout: 0.05, targetModules: ["q_proj", "k_proj", "v_proj"] } },
      data: { maxLength: 1024, nSplits: 5, foldIdx: 0 },
      training: { ...training, perDeviceEvalBatchSize: 8, learningRate: 0.0002, saveSteps: 200 },
    });
    const layers = (config["adapter"]!["options"] as Record<string, number[]>)["layersToTransform"]!;
    expect([layers[0], layers.at(-1), layers.length]).toEqual([16, 41, 26]);
    const { perDeviceTrainBatchSize, gradientAccumulationSteps } = config["training"] as Record<string, number>;
    const rows = Array.from({ length: 57_477 }, (_, i) => i).filter((i) => i % 5 !== 0).length;
    expect(Math.ceil(rows / (perDeviceTrainBatchSize! * gradientAccumulationSteps!))).toBe(5748);
  });

  test("flags win over the preset, the preset over the file", async () => {
    writeFileSync(
      join(root, "mine.config.ts"),
      `import { defineConfig } from ${JSON.stringify(join(home, "index.ts"))};
       import { adamW8bit, gemma2, lora } from ${JSON.stringify(join(home, "plugins/index.ts"))};
       export default defineConfig({ model: gemma2({ checkpoint: "mine", attnLogitSoftcapping: 30 }), adapter: lora({ rank: 3 }),
         optimizer: adamW8bit(), data: { trainFiles: ["mine.csv"] }, training: { seed: 7, outputDir: "there" } });`,
    );
    const flags = [
      "--config",
      "mine.config.ts",
      "--preset",
      "lmsys-seed",
      "--learning-rate",
      "1e-4",
      "--adapter.alpha",
      "16",
    ];
    expect(configOf(await qlora("train", ...flags, "--print-config"))).toMatchObject({
      model: { options: { checkpoint: "unsloth/gemma-2-9b-it-bnb-4bit", attnLogitSoftcapping: 0 } },
      adapter: { options: { rank: 64, alpha: 16 } },
      data: { trainFiles: ["mine.csv"], nSplits: 100 },
      training: { learningRate: 1e-4, seed: 42, outputDir: "there" },
    });
    const own = configOf(await qlora("train", ...flags, "--eval-files", "held.csv", "--print-config"));
    expect(own["data"]).toMatchObject({ evalFiles: ["held.csv"], foldIdx: 0 });
    expect(own["data"]).not.toHaveProperty("nSplits");
  });

  test("the list; a name that is none", async () => {
    const { stdout } = await qlora("presets");
    expect(stdout).toMatch(/^lmsys-seed +.*global batch 32/m);
    expect(stdout).toMatch(/^lmsys-kaggle +.*global batch 8/m);
    const wrong = await qlora("train", "--preset", "lmsys-sead", "--print-config");
    expect(wrong).toMatchObject({ code: 2, stdout: "" });
    expect(wrong.stderr).toContain('there is no such preset; did you mean "lmsys-seed"?');
  });

  test("the seed's trainable parameters on the shape of Gemma-2-9B", async () => {
    mkdirSync(join(root, "gemma-9b"));
    const config = {
      model_type: "gemma2",
      vocab_size: 256000,
      hidden_size: 3584,
      num_hidden_layers: 42,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      head_dim: 256,
      intermediate_size: 14336,
      query_pre_attn_scalar: 256,
      max_position_embeddings: 8192,
      rope_theta: 10000,
      rms_norm_eps: 1e-6,
      sliding_window: 4096,
      attn_logit_softcapping: 50,
      final_logit_softcapping: 30,
      hidden_activation: "gelu_pytorch_tanh",
      pad_token_id: 0,
      eos_token_id: 1,
      bos_token_id: 2,
      id2label: { 0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2" },
      quantization_config: {
        load_in_4bit: true,
        bnb_4bit_quant_type: "nf4",
        bnb_4bit_use_double_quant: true,
        quant_method: "bitsandbytes",
      },
    };
    writeFileSync(join(root, "gemma-9b", "config.json"), JSON.stringify(config));
    const { stdout, stderr } = await qlora("inspect", "--preset", "lmsys-seed", "--model", "./gemma-9b");
    expect(stderr).toBe("");
    expect(stdout).toEndWith("trainable params: 119,745,024 || all params: 9,361,461,760 || trainable%: 1.2791\n");
  });
});

describe("qlora init", () => {
  test.each([[[]], [["--preset", "lmsys-kaggle"]]])("writes a config that loads (%j), once", async (flags) => {
    const folder = mkdtempSync(join(root, "init-"));
    process.chdir(folder);
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(home, join(folder, "node_modules", "qlora"));
    expect(await qlora("init", ...flags)).toMatchObject({ code: 0, stdout: "" });
    const text = readFileSync("qlora.config.ts", "utf8");
    expect(text).toMatch(/^ {4}\/\/ maxSteps: -1, \/\/ optimizer steps/m);
    expect(text).toMatch(/^ {4}learningRate: 0\.0002, \/\/ peak learning rate$/m);
    const config = configOf(await qlora("train", "--print-config"));
    expect(config).toMatchObject({
      adapter: { options: { rank: 16, alpha: 32 } },
      data: { trainFiles: ["train.csv"] },
    });
    const again = await qlora("init");
    expect(again).toMatchObject({ code: 2, stdout: "" });
    expect(again.stderr).toContain("there is one in this folder already");
    expect(readFileSync("qlora.config.ts", "utf8")).toBe(text);
    process.chdir(root);
  });

  test("the defaults that it shows are the defaults", async () => {
    const folder = mkdtempSync(join(root, "init-"));
    process.chdir(folder);
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(home, join(folder, "node_modules", "qlora"));
    await qlora("init");
    const before = configOf(await qlora("train", "--print-config"));
    const text = readFileSync("qlora.config.ts", "utf8");
    writeFileSync("all.config.ts", text.replaceAll(/^( +)\/\/ (\w+: )/gm, "$1$2"));
    expect(configOf(await qlora("train", "--config", "all.config.ts", "--print-config"))).toEqual(before);
    expect(existsSync("output")).toBe(false);
    process.chdir(root);
  });
});
