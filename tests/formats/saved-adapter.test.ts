/** Adapters as the outside world saves them: read as PEFT reads them, or refused by the true cause. No GPU, no base weights. */
import { describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TensorToWrite } from "../../core/formats/safetensors.ts";
import { isPluginFactory } from "../../core/plugin/factory.ts";
import { averageAdapters } from "../../index.ts";
import * as plugins from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { fileHost, openFolder, openSafetensors, writeFiles, writeSafetensors } from "../../runtime/files/folder.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { openAdapterRun } from "../../runtime/inference/adapter-run.ts";
import { tinyCheckpoint } from "../support/reference.ts";
import { rejection, temporaryFolder } from "./support.ts";

const folder = temporaryFolder();
const SCORE = "base_model.model.score.weight";
const A = "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight";
const shipped = Object.values(plugins).filter((value) => isPluginFactory(value));

/** A LoRA adapter of three classes on the tiny checkpoint; its values differ from one another. */
const original = join(folder, "original");
const saved = (async () => {
  mkdirSync(original);
  const { linears, head } = await plugins.gemma2({ checkpoint: tinyCheckpoint }).create(fileHost).outline(3);
  const plugin = plugins.lora({ rank: 2, targetModules: ["q_proj", "v_proj"], layersToTransform: [2, 3] });
  const adapter = await plugin.create({ linears, head, baseModel: tinyCheckpoint, seed: 1 });
  let next = 0;
  const values = new Map(
    [...adapter.parameters, ...head].map(({ name, shape }) => {
      const size = shape.reduce((product, n) => product * n, 1);
      return [name, Float32Array.from({ length: size }, () => (next++ % 251) / 256)] as const;
    }),
  );
  await writeFiles(original, await adapter.save(values));
  return values;
})();

let copies = 0;
/** A copy with its config and tensors changed. */
async function changed(
  config: Record<string, unknown>,
  tensors: (map: Map<string, TensorToWrite>) => void = () => {},
): Promise<string> {
  await saved;
  const copy = join(folder, `copy-${++copies}`);
  cpSync(original, copy, { recursive: true });
  const path = join(copy, "adapter_config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...config }));
  const map = new Map<string, TensorToWrite>();
  const weights = join(copy, "adapter_model.safetensors");
  await using file = await openSafetensors(weights);
  for (const [name, { dtype, shape }] of file.tensors) map.set(name, { dtype, shape, data: await file.read(name) });
  tensors(map);
  await writeSafetensors(weights, map, { format: "pt" });
  return copy;
}

/** Opens what predict, eval and merge open before a GPU, and gives the adapter's values. */
async function open(run: string, baseModel: string | null = tinyCheckpoint, onEvent?: (event: RunEvent) => void) {
  const adapter = await findAdapter(run);
  const opened = await openAdapterRun(
    { run, baseModel: baseModel ?? undefined },
    adapter,
    { shipped, from: folder },
    onEvent,
  );
  const { linears, head } = await opened.source.outline(opened.numLabels);
  const made = await opened.plugin.create({ linears, head, baseModel: "", seed: 0 });
  return { numLabels: opened.numLabels, values: await made.load(openFolder(run)) };
}

const rename = (map: Map<string, TensorToWrite>, to: (name: string) => string): void => {
  const entries = [...map];
  for (const [name, tensor] of entries) {
    map.delete(name);
    map.set(to(name), tensor);
  }
};
const floats = (...shape: number[]): TensorToWrite => ({
  dtype: "F32",
  shape,
  data: new Float32Array(shape.reduce((product, n) => product * n, 1)),
});

describe("read as PEFT reads it", () => {
  const nulls = [
    "task_type",
    "revision",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "inference_mode",
    "fan_in_fan_out",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "target_modules",
  ];
  for (const key of nulls) {
    test(`${key} null`, async () => {
      expect(await open(await changed({ [key]: null }))).toEqual({ numLabels: 3, values: await saved });
    });
  }

  const state = (name: string): string =>
    name
      .replace(/\.lora_([AB])\.weight$/, ".lora_$1.default.weight")
      .replace("score.weight", "score.modules_to_save.default.weight");
  const renames: [what: string, to: (name: string) => string][] = [
    ["keys of a state_dict", state],
    ["keys of a state_dict whose adapter has another name", (name) => state(name).replace("default", "arena")],
    ["keys of a compiled and distributed model", (name) => `module._orig_mod.${name}`],
  ];
  for (const [what, to] of renames) {
    test(what, async () => {
      const run = await changed({}, (map) => rename(map, to));
      expect(await open(run)).toEqual({ numLabels: 3, values: await saved });
    });
  }

  test("a state_dict's frozen copy of the head, and an lm_head, are of no use to a classifier", async () => {
    const run = await changed({}, (map) => {
      map.set("base_model.model.score.original_module.weight", floats(3, 128));
      map.set("base_model.model.lm_head.weight", floats(4096, 128));
    });
    expect((await open(run)).values).toEqual(await saved);
  });

  test("a revision of the adapter's own: the base is used as it stands, and that is said", async () => {
    const run = await changed({ revision: "step-1000" });
    const told: string[] = [];
    const onEvent = (event: RunEvent): void => void (event.type === "warning" && told.push(event.message));
    expect((await open(run, null, onEvent)).numLabels).toBe(3);
    expect(told).toEqual([
      `adapter_config.json notes the revision "step-1000", which ${tinyCheckpoint} does not have: taken for the adapter's own, the base is used as it stands`,
    ]);
  });

  test("target modules as Python's expression", async () => {
    const run = await changed({
      target_modules: String.raw`(?i).*\.(?P<name>[23])\.SELF_ATTN\.(q|v)_proj\Z`,
      layers_to_transform: null,
    });
    expect((await open(run)).values).toEqual(await saved);
  });

  test("a setting that nobody knows here is said, not passed over in silence", async () => {
    const run = await changed({ use_quantum: true, new_field: null });
    const told: string[] = [];
    const onEvent = (event: RunEvent): void => void (event.type === "warning" && told.push(event.message));
    await open(run, null, onEvent);
    expect(told.join()).toContain("adapter_config.json: use_quantum is not known here and is passed over");
    expect(told.join()).not.toContain("new_field");
  });
});

describe("refused by its true cause, before anything of the base is looked for", () => {
  const nowhere = "nobody/nothing-that-could-be-reached";
  const cases: [
    what: string,
    config: object,
    tensors: (map: Map<string, TensorToWrite>) => void,
    code: string,
    says: RegExp,
  ][] = [
    [
      "embeddings saved beside it",
      {},
      (map) => map.set("base_model.model.model.embed_tokens.weight", floats(4096, 128)),
      "ADAPTER_EMBEDDINGS",
      /embed_tokens\.weight" is an embedding layer saved beside the adapter/,
    ],
    [
      "embeddings under modules_to_save",
      { modules_to_save: ["score", "embed_tokens"] },
      (map) => map.set("base_model.model.model.embed_tokens.modules_to_save.default.weight", floats(4096, 128)),
      "ADAPTER_EMBEDDINGS",
      /is an embedding layer saved beside the adapter/,
    ],
    [
      "LoRA of the embeddings",
      {},
      (map) => map.set("base_model.model.model.embed_tokens.lora_embedding_A", floats(2, 4096)),
      "ADAPTER_EMBEDDINGS",
      /is LoRA of the embedding layer/,
    ],
    [
      "a state_dict of the whole model",
      {},
      (map) => map.set("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight", floats(128, 128)),
      "ADAPTER_TENSOR_UNKNOWN",
      /is a weight of the base model/,
    ],
    [
      "two adapters in one file",
      {},
      (map) => {
        const [a, b] = [map.get(A)!, "base_model.model.model.layers.3.self_attn.q_proj.lora_A"];
        map.delete(A);
        map.set(`${b}.one.weight`, a);
        map.set("base_model.model.score.modules_to_save.two.weight", floats(3, 128));
        map.delete(SCORE);
      },
      "ADAPTER_TENSOR_UNKNOWN",
      /of the adapters (one and two|two and one), expected those of one adapter/,
    ],
    [
      "a tensor under both of its names",
      {},
      (map) => map.set("base_model.model.score.modules_to_save.default.weight", floats(3, 128)),
      "ADAPTER_TENSOR_UNKNOWN",
      /expected those of one adapter/,
    ],
    [
      "no head",
      {},
      (map) => map.delete(SCORE),
      "ADAPTER_HEAD_MISSING",
      /there is no tensor "base_model\.model\.score\.weight": the head was not saved/,
    ],
    [
      "an adapter of a language model",
      { task_type: "CAUSAL_LM" },
      (map) => map.delete(SCORE),
      "ADAPTER_HEAD_MISSING",
      /this is an adapter for "CAUSAL_LM"/,
    ],
    [
      "another kind of adapter",
      { peft_type: "PREFIX_TUNING" },
      () => {},
      "ADAPTER_UNKNOWN",
      /peft_type "PREFIX_TUNING"/,
    ],
    [
      "a bias",
      { bias: "lora_only" },
      () => {},
      "ADAPTER_CONFIG_INVALID",
      /bias is "lora_only", which is not supported/,
    ],
  ];
  for (const [what, config, tensors, code, says] of cases) {
    test(what, async () => {
      const error = await rejection(open(await changed({ ...config }, tensors), nowhere));
      expect(error).toMatchObject({ code, message: expect.stringMatching(says) });
    });
  }

  test("a module trained whole, other ranks, other layers: by the tensor, before the weights", async () => {
    const norm = await changed({}, (map) => map.set("base_model.model.model.norm.weight", floats(128)));
    expect(await rejection(open(norm))).toMatchObject({
      message: expect.stringContaining('tensor "base_model.model.model.norm.weight" is of a module trained whole'),
    });
    expect(await rejection(open(await changed({ r: 3 })))).toMatchObject({
      code: "ADAPTER_SHAPE",
      message: expect.stringContaining("needs [3,128]"),
    });
    expect(await rejection(open(await changed({ layers_to_transform: [3] })))).toMatchObject({
      message: expect.stringMatching(/layers\.2\.self_attn\.q_proj\.lora_A\.weight" has no place/),
      hint: expect.stringContaining("--base-model"),
    });
  });

  test("a pattern that would backtrack for ever, and one with a construct that is not read", async () => {
    expect(
      await rejection(open(await changed({ target_modules: "(.*)*(.*)*(.*)*x", layers_to_transform: null }))),
    ).toMatchObject({
      message: expect.stringContaining("match none of the model's"),
    });
    expect(
      await rejection(open(await changed({ target_modules: String.raw`(q|v)_\1`, layers_to_transform: null }))),
    ).toMatchObject({
      message: expect.stringContaining("a backreference \\1, which is not supported,"),
    });
  });

  test("a head of one logit is taken for a regression, as transformers does, and that is said", async () => {
    const told: RunEvent[] = [];
    const run = await changed({}, (map) => map.set(SCORE, floats(1, 128)));
    expect((await open(run, tinyCheckpoint, (event) => told.push(event))).numLabels).toBe(1);
    const message = `${run}: its head has one logit, taken for a regression as transformers does; say --task reward where it is a reward model`;
    expect(told).toContainEqual({ type: "warning", message });
  });

  test("a head of one logit as a start of training", async () => {
    const run = await changed({}, (map) => map.set(SCORE, floats(1, 128)));
    const { linears, head } = await plugins.gemma2({ checkpoint: tinyCheckpoint }).create(fileHost).outline(3);
    const plugin = plugins.lora({ rank: 2, targetModules: ["q_proj", "v_proj"], layersToTransform: [2, 3] });
    const adapter = await plugin.create({ linears, head, baseModel: "", seed: 1 });
    expect(await rejection(adapter.load(openFolder(run)))).toMatchObject({ code: "HEAD_OF_ONE_LOGIT" });
  });

  test("a pickle", async () => {
    const run = await changed({});
    renameSync(join(run, "adapter_model.safetensors"), join(run, "adapter_model.bin"));
    expect(await rejection(open(run))).toMatchObject({
      code: "SAFETENSORS_MISSING",
      message: expect.stringContaining("pickled (adapter_model.bin)"),
    });
  });

  test("NaN by tensor name; allowNonFinite goes on; a mean with it is refused", async () => {
    const run = await changed({}, (map) => {
      const { shape, data } = map.get(A)!;
      const values = new Float32Array((data as Uint8Array<ArrayBuffer>).slice().buffer);
      values[5] = -Infinity;
      map.set(A, { dtype: "F32", shape, data: values });
    });
    expect(await rejection(open(run))).toMatchObject({
      code: "TENSOR_NOT_FINITE",
      message: `${run}: tensor "${A}": element 5 is NaN or infinite, expected a finite number`,
      hint: expect.stringContaining("--allow-non-finite"),
    });
    const adapter = await findAdapter(run);
    const request = { run, baseModel: tinyCheckpoint, allowNonFinite: true };
    expect((await openAdapterRun(request, adapter, { shipped, from: folder }, undefined)).allowNonFinite).toBe(true);
    const average = averageAdapters({ adapters: [original, run], outputDir: join(folder, "mean") });
    expect(await rejection(average)).toMatchObject({ code: "TENSOR_NOT_FINITE" });
  });
});
