import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expandTargets, matchTargets, patternValue } from "../../core/adapter/peft-targets.ts";
import { ConfigError, ModelError } from "../../core/errors.ts";
import {
  formatLoraConfig,
  formatModelCard,
  loraConfigDefaults,
  loraKey,
  parseLoraConfig,
  parseLoraKey,
  readAdapterConfig,
  savedModuleKey,
} from "../../core/formats/peft.ts";
import { openFolder, openSafetensors } from "../../runtime/files/folder.ts";
import { goldenPath } from "../support/reference.ts";
import { rejection, temporaryFolder } from "./support.ts";

const dir = temporaryFolder();
const adapter = (...parts: string[]) => goldenPath(...parts, "adapter_config.json");

const seed = {
  ...loraConfigDefaults,
  baseModelNameOrPath: "unsloth/gemma-2-9b-it-bnb-4bit",
  r: 64,
  loraAlpha: 32,
  loraDropout: 0.05,
  targetModules: ["k_proj", "o_proj", "q_proj", "v_proj", "gate_proj"],
};

describe("adapter_config.json", () => {
  for (const parts of [
    ["parity-tiny", "adapter"],
    ["train-adamw", "adapter-start"],
    ["train-adamw8bit", "adapter-final"],
    ["plugins", "parity-llama", "adapter"],
    ["plugins", "parity-dora", "adapter"],
  ]) {
    test(`${parts.join("/")}: read and written back is byte-equal to PEFT's`, async () => {
      const { config, unknownKeys } = parseLoraConfig(
        await readAdapterConfig(openFolder(dirname(adapter(...parts)))),
        "x",
        {
          dora: true,
        },
      );
      expect(unknownKeys).toEqual([]);
      expect(formatLoraConfig(config)).toBe(readFileSync(adapter(...parts), "utf8"));
    });
  }

  test("a config made from our own defaults is byte-equal to PEFT's", () => {
    const config = {
      ...loraConfigDefaults,
      baseModelNameOrPath: "tiny-gemma2-nf4",
      r: 8,
      loraAlpha: 16,
      layersToTransform: [1, 2, 3],
      targetModules: ["o_proj", "k_proj", "v_proj", "q_proj", "gate_proj"],
    };
    expect(formatLoraConfig(config)).toBe(readFileSync(adapter("parity-tiny", "adapter"), "utf8"));
  });

  test("a file of mid-2024 takes defaults for what it lacks, and newer keys are named", () => {
    const json = {
      alpha_pattern: {},
      auto_mapping: null,
      base_model_name_or_path: "unsloth/gemma-2-9b-it-bnb-4bit",
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      layer_replication: null,
      layers_pattern: null,
      layers_to_transform: [0, 1],
      loftq_config: {},
      lora_alpha: 32,
      lora_dropout: 0.05,
      megatron_config: null,
      megatron_core: "megatron.core",
      modules_to_save: ["classifier", "score"],
      peft_type: "LORA",
      r: 64,
      rank_pattern: {},
      revision: null,
      target_modules: ["k_proj", "o_proj", "q_proj", "v_proj", "gate_proj"],
      task_type: "SEQ_CLS",
      use_dora: false,
      use_rslora: false,
      some_future_key: 1,
    };
    const { config, unknownKeys } = parseLoraConfig(json, "x");
    expect(config).toEqual({ ...seed, layersToTransform: [0, 1], peftVersion: null });
    expect(unknownKeys).toEqual(["some_future_key"]);
  });

  const minimal = {
    peft_type: "LORA",
    r: 8,
    lora_alpha: 16,
    target_modules: ".*q_proj",
    base_model_name_or_path: "x",
    task_type: "SEQ_CLS",
  };
  test("the required fields are enough", () => {
    const { config } = parseLoraConfig(minimal, "x");
    expect(config).toMatchObject({ r: 8, loraDropout: 0, modulesToSave: null, useRslora: false, rankPattern: {} });
  });

  test("all problems together", () => {
    const error = (() => {
      try {
        return parseLoraConfig(
          { peft_type: "IA3", r: 0, lora_alpha: "16", use_dora: true, bias: "all", use_qalora: true },
          "dir/x.json",
        );
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toBeInstanceOf(ModelError);
    expect((error as ModelError).message).toBe(
      [
        "dir/x.json:",
        '  - peft_type is "IA3", expected "LORA"',
        "  - r is 0, expected a positive whole number",
        '  - lora_alpha is "16", expected a number',
        "  - use_dora is true, expected false",
        '  - bias is "all", which is not supported (expected "none")',
        "  - use_qalora is true, which is not supported (expected false)",
      ].join("\n"),
    );
  });

  for (const [key, value] of Object.entries({
    trainable_token_indices: [1],
    target_parameters: ["x"],
    loftq_config: { loftq_bits: 4 },
    init_lora_weights: "pissa",
    layer_replication: [[0, 2]],
    lora_bias: true,
    fan_in_fan_out: true,
    lora_dropout: 1,
    layers_to_transform: [-1],
  })) {
    test(`${key} ${JSON.stringify(value)} is refused`, () => {
      expect(() => parseLoraConfig({ ...minimal, [key]: value }, "x")).toThrow(`x: ${key} is ${JSON.stringify(value)}`);
    });
  }

  test("a missing file, and one that is not JSON", async () => {
    expect(await rejection(readAdapterConfig(openFolder(join(dir, "none"))))).toMatchObject({
      code: "ADAPTER_CONFIG_INVALID",
    });
    writeFileSync(join(dir, "adapter_config.json"), "{");
    expect(String(await rejection(readAdapterConfig(openFolder(dir))))).toContain(
      "adapter_config.json: is not valid JSON",
    );
  });
});

describe("tensor names", () => {
  test("are those of PEFT's own file", async () => {
    await using file = await openSafetensors(goldenPath("parity-tiny", "adapter", "adapter_model.safetensors"));
    const modules = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj"];
    const names = [1, 2, 3].flatMap((i) => modules.map((module) => `model.layers.${i}.${module}`));
    const keys = names.flatMap((name) => [loraKey(name, "A"), loraKey(name, "B")]);
    expect([...keys, savedModuleKey("score")].toSorted()).toEqual([...file.tensors.keys()].toSorted());
    for (const name of names) expect(parseLoraKey(loraKey(name, "B"))).toEqual({ module: name, part: "B" });
    expect(parseLoraKey(savedModuleKey("score"))).toBeUndefined();
  });
});

test("the model card begins with PEFT's front matter", () => {
  const theirs = readFileSync(goldenPath("parity-tiny", "adapter", "README.md"), "utf8");
  const front = theirs.slice(0, theirs.indexOf("\n# "));
  expect(formatModelCard("tiny-gemma2-nf4", "lora", "Text.").startsWith(`${front}\n# `)).toBe(true);
  expect(formatModelCard("a: b", "lora", "Text.")).toContain('base_model: "a: b"\n');
});

describe("matchTargets", () => {
  const parts = ["q", "k", "v", "o"]
    .map((p) => `self_attn.${p}_proj`)
    .concat(["gate", "up", "down"].map((p) => `mlp.${p}_proj`));
  const names = Array.from({ length: 12 }, (_, i) => parts.map((part) => `model.layers.${i}.${part}`)).flat();
  const match = (options: Parameters<typeof matchTargets>[1]) => matchTargets(names, options).matched;

  test("a name matches whole, or as the end from a dot on", () => {
    expect(match({ targetModules: ["q_proj"] }).length).toBe(12);
    expect(match({ targetModules: ["layers.1.self_attn.q_proj"] })).toEqual(["model.layers.1.self_attn.q_proj"]);
    expect(matchTargets(names, { targetModules: ["_proj", "up_proj"] })).toEqual({
      matched: names.filter((name) => name.endsWith(".up_proj")),
      unmatchedTargets: ["_proj"],
    });
  });

  test("the order is the model's, not the list's", () => {
    expect(match({ targetModules: ["v_proj", "q_proj"], layersToTransform: [3] })).toEqual([
      "model.layers.3.self_attn.q_proj",
      "model.layers.3.self_attn.v_proj",
    ]);
  });

  test("layersToTransform takes numbers, not their digits; empty means all", () => {
    expect(match({ targetModules: ["q_proj"], layersToTransform: [1, 11] })).toEqual([
      "model.layers.1.self_attn.q_proj",
      "model.layers.11.self_attn.q_proj",
    ]);
    expect(match({ targetModules: ["q_proj"], layersToTransform: 0 })).toEqual(["model.layers.0.self_attn.q_proj"]);
    expect(match({ targetModules: ["q_proj"], layersToTransform: [] }).length).toBe(12);
    expect(match({ targetModules: ["q_proj"], layersToTransform: [2], layersPattern: "layers" }).length).toBe(1);
    expect(() => match({ targetModules: ["q_proj"], layersToTransform: [2], layersPattern: "blocks" })).toThrow(
      ConfigError,
    );
    expect(match({ targetModules: ["model.layers.5.mlp.up_proj"], layersToTransform: [2] }).length).toBe(1);
  });

  test("excludeModules and modulesToSave are left alone", () => {
    expect(
      match({ targetModules: ["q_proj", "up_proj"], excludeModules: ["up_proj", "layers.0.self_attn.q_proj"] }).length,
    ).toBe(11);
    expect(match({ targetModules: ["q_proj", "up_proj"], excludeModules: String.raw`.*\.[0-9]\..*` }).length).toBe(4);
    expect(match({ targetModules: ["q_proj", "up_proj"], modulesToSave: ["up_proj"] }).length).toBe(12);
  });

  test("a string is a regular expression for the whole name", () => {
    expect(match({ targetModules: String.raw`.*\.(q|k)_proj` }).length).toBe(24);
    expect(match({ targetModules: String.raw`model\.layers\.1\..*|x` }).length).toBe(7);
    expect(() => match({ targetModules: "q.proj" })).toThrow(ConfigError);
    expect(() => match({ targetModules: "(" })).toThrow(ConfigError);
    expect(() => match({ targetModules: ".*q_proj", layersToTransform: [1] })).toThrow("layersToTransform");
  });

  test("one word is a list of it, as a command line gives it, and is saved as a list", () => {
    const wanted = names.filter((name) => name.endsWith(".v_proj"));
    expect(wanted.length).toBe(12);
    expect(matchTargets(names, { targetModules: "v_proj" }).matched).toEqual(wanted);
    expect(expandTargets(names, { targetModules: "v_proj" })).toEqual(["v_proj"]);
    expect(() => matchTargets(names, { targetModules: "value" })).toThrow(/"value" match none/);
  });

  test("all-linear is every linear but the head", () => {
    const all = [...names, "score", "lm_head"];
    expect(matchTargets(all, { targetModules: "all-linear" }).matched).toEqual(names);
    expect(matchTargets(all, { targetModules: "all-linear", layersToTransform: [1] }).matched.length).toBe(7);
    expect(expandTargets(all, { targetModules: "all-linear" })).toEqual(parts.map((part) => part.split(".")[1]!));
    expect(expandTargets(all, { targetModules: "all-linear", modulesToSave: ["up_proj"] })).not.toContain("up_proj");
  });

  test("nothing matched is one error that names what there is", () => {
    try {
      match({ targetModules: ["query"], layersToTransform: [40] });
      throw new Error("expected a ConfigError");
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as ConfigError).message).toContain('targetModules ["query"] match none');
      expect((error as ConfigError).message).toContain("within layersToTransform [40]");
      expect((error as ConfigError).hint).toContain("q_proj, k_proj");
    }
  });

  test("rank_pattern and alpha_pattern match as ends or regular expressions", () => {
    const name = "model.layers.1.self_attn.q_proj";
    expect(patternValue({}, name, 8)).toBe(8);
    expect(patternValue({ q_proj: 4 }, name, 8)).toBe(4);
    expect(patternValue({ proj: 4 }, name, 8)).toBe(8);
    expect(patternValue({ [String.raw`layers\.[12]\.self_attn\.[qk]_proj`]: 2, q_proj: 4 }, name, 8)).toBe(2);
    expect(patternValue({ "^model.layers.0": 2 }, name, 8)).toBe(8);
    // PEFT: re.match(rf"(.*\.)?({key})$", name), which asks for the whole of the name.
    expect(patternValue({ "^model.layers.1.": 2 }, name, 8)).toBe(8);
    expect(patternValue({ "^model.layers.1.self_attn.q_proj": 2 }, name, 8)).toBe(2);
  });
});
