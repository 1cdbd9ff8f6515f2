/** The files of an adapter: adapter_config.json, its tensors, and the regular expressions in it. */
import { dirname } from "node:path";
import { loadAdapterTensors } from "../../core/adapter/files.ts";
import { matchTargets } from "../../core/adapter/peft-targets.ts";
import { pythonPattern } from "../../core/adapter/python-regex.ts";
import { decoderLinears } from "../../core/compute/decoder.ts";
import {
  loraConfigDefaults,
  formatLoraConfig,
  loraKey,
  readAdapterConfig,
  savedModuleKey,
} from "../../core/formats/peft.ts";
import { dora, ia3, lora, vera } from "../../plugins/index.ts";
import { openFolder } from "../../runtime/files/folder.ts";
import { type LooseTensors, packTensors } from "../formats/malformed.ts";
import { fuzz, inFile } from "./harness.ts";

const widths = { hiddenSize: 64, intermediateSize: 128, numAttentionHeads: 2, numKeyValueHeads: 1, headDim: 32 };
const linears = [0, 1].flatMap((layer) => decoderLinears(widths, layer));
const names = linears.map(({ name }) => name);
const SCORE = savedModuleKey("score");
const head = [{ name: SCORE, shape: [3, 64] }];
const context = { linears, head, baseModel: "base", seed: 1 };

const loraJson = formatLoraConfig({
  ...loraConfigDefaults,
  baseModelNameOrPath: "base",
  r: 2,
  loraAlpha: 4,
  targetModules: ["q_proj", "v_proj"],
  layersToTransform: [1],
  rankPattern: { "layers.1.self_attn.q_proj": 4 },
  alphaPattern: { "^model.*v_proj": 8 },
});
const ia3Json = JSON.stringify({
  peft_type: "IA3",
  target_modules: ["k_proj", "down_proj"],
  feedforward_modules: String.raw`.*\.down_proj`,
  exclude_modules: null,
});
const veraJson = JSON.stringify({ peft_type: "VERA", r: 4, d_initial: 0.1, target_modules: ["q_proj"], bias: "none" });

fuzz({
  name: "adapter-config",
  kind: "json",
  corpus: [
    loraJson,
    ia3Json,
    veraJson,
    JSON.stringify({ ...JSON.parse(loraJson), use_dora: true, target_modules: ".*_proj" }),
  ],
  run: async (input) => {
    const config = await readAdapterConfig(openFolder(dirname(inFile(input, "adapter_config.json"))));
    const reader = [lora, dora, ia3, vera].find((factory) => factory.reads(config));
    if (reader === undefined) return;
    const { parameters } = await reader.fromConfig(config).create(context);
    for (const { name, shape } of parameters)
      if (!shape.every((n) => Number.isSafeInteger(n) && n > 0)) throw new Error(`${name} is [${shape.join(",")}]`);
  },
});

const A = loraKey("model.layers.1.self_attn.q_proj", "A");
const B = loraKey("model.layers.1.self_attn.q_proj", "B");
const shapes = [{ name: A, shape: [2, 64] }, { name: B, shape: [64, 2] }, ...head];
const file = (rename: (name: string) => string): Buffer => {
  const loose: LooseTensors = new Map();
  for (const { name, shape } of shapes)
    loose.set(rename(name), { dtype: "F32", shape, bytes: Buffer.alloc(4 * shape[0]! * shape[1]!) });
  return packTensors(loose);
};

fuzz({
  name: "adapter-tensors",
  kind: "safetensors",
  corpus: [
    file((name) => name),
    file((name) =>
      name.replace(/\.weight$/, ".default.weight").replace("score.default", "score.modules_to_save.default"),
    ),
  ],
  run: async (input) => {
    const values = await loadAdapterTensors(openFolder(dirname(inFile(input, "adapter_model.safetensors"))), shapes);
    for (const { name, shape } of shapes)
      if (values.get(name)?.length !== shape[0]! * shape[1]!) throw new Error(`${name} is missing`);
  },
});

fuzz({
  name: "python-regex",
  kind: "text",
  corpus: [
    String.raw`(?i).*\.(?P<proj>q|v)_proj`,
    String.raw`model\.layers\.(?!1\d\.)(\d+|[^.]{2,3})\.(?:self_attn|mlp)\.\w+\b`,
    "(a*)*(b|c){2,}[]x-z^-]?(?<=c)(?#z)$",
  ],
  boundMs: 4000,
  run: ({ text }) => {
    const matches = pythonPattern(text, "targetModules");
    for (const name of names.slice(0, 3)) if (typeof matches(name) !== "boolean") throw new Error("no answer");
    matchTargets(names, { targetModules: text, excludeModules: text, layersPattern: text });
  },
});
