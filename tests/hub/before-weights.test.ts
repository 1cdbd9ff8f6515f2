/** What config.json, the index and the list of files can tell is told before any weights are asked for. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "../../index.ts";
import { gemma2, lora } from "../../plugins/index.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { openBaseModel } from "../../runtime/session/base-model.ts";
import { looseConfig, looseTensors, packTensors } from "../formats/malformed.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";
import { failure, files, hub, hubTest, ID, serve, server, useHub } from "./hub-model.ts";
import { sha256 } from "./server.ts";

useHub();

const kept = { ...process.env };
beforeEach(() => Object.assign(process.env, { HF_HUB_CACHE: hub.cacheDir, HF_HOME: hub.cacheDir }));
afterEach(() => {
  for (const key of ["HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT"]) {
    if (kept[key] === undefined) delete process.env[key];
    else process.env[key] = kept[key];
  }
});

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const quantized = looseConfig()["quantization_config"] as object;
const configWith = (change: Record<string, unknown>): Uint8Array => json({ ...looseConfig(), ...change });
const names = [...looseTensors().keys()];
/** The tiny checkpoint's index, as of two shards. */
const indexWith = (rename: (name: string) => string | undefined): Uint8Array =>
  json({
    weight_map: Object.fromEntries(
      names.flatMap((name, i) => {
        const now = rename(name);
        return now === undefined ? [] : [[now, `model-0000${(i % 2) + 1}-of-00002.safetensors`]];
      }),
    ),
  });
const sharded = (index: Uint8Array, shards = 2): [string, Uint8Array][] => [
  ["config.json", files.get("config.json")!],
  ["model.safetensors.index.json", index],
  ...Array.from({ length: shards }, (_, i): [string, Uint8Array] => [
    `model-0000${i + 1}-of-00002.safetensors`,
    Buffer.from("weights"),
  ]),
];
const down = "model.layers.3.mlp.down_proj";

describe("refused before any weights", () => {
  const whole = (change: Record<string, unknown>): [string, Uint8Array][] => [
    ...files,
    ["config.json", configWith(change)],
  ];
  const quantizedAs = (change: object): [string, Uint8Array][] =>
    whole({ quantization_config: { ...quantized, ...change } });
  const cases: [what: string, repository: [string, Uint8Array][], says: RegExp, hint?: RegExp][] = [
    [
      "GPTQ",
      whole({ quantization_config: { quant_method: "gptq", bits: 4 } }),
      /: quantization_config\.quant_method is "gptq", expected "bitsandbytes"$/,
      /--base-model/,
    ],
    ["AWQ", whole({ quantization_config: { quant_method: "awq" } }), /quant_method is "awq"/, /--base-model/],
    [
      "eight bits",
      quantizedAs({ load_in_4bit: false, load_in_8bit: true, _load_in_4bit: false }),
      /load_in_4bit is false/,
    ],
    [
      "another type of 4 bits",
      quantizedAs({ bnb_4bit_quant_type: "int4" }),
      /bnb_4bit_quant_type is "int4", expected "nf4" or "fp4"/,
      /--base-model/,
    ],
    ["10^9 layers", whole({ num_hidden_layers: 1e9 }), /num_hidden_layers is 1000000000, expected at most 10000/],
    ["2^53 layers", whole({ num_hidden_layers: 2 ** 53 }), /num_hidden_layers is 9007199254740992, expected a/],
    [
      "FP4 by its index",
      sharded(indexWith((name) => name.replace("bitsandbytes__nf4", "bitsandbytes__fp4"))),
      /tensor "model\.layers\.0\.self_attn\.q_proj\.weight" is quantized as fp4, but config\.json says nf4/,
    ],
    [
      "a linear in 16 bits by its index",
      sharded(indexWith((name) => (name.startsWith(`${down}.weight.`) ? undefined : name))),
      /index\.json: tensor "model\.layers\.3\.mlp\.down_proj\.weight" is not quantized: it has no quant_state/,
      /llm_int8_skip_modules/,
    ],
    [
      "a linear that is not there",
      sharded(indexWith((name) => (name.startsWith(down) ? undefined : name))),
      /there is no tensor "model\.layers\.3\.mlp\.down_proj\.weight"/,
    ],
    [
      "a shard that was never uploaded",
      sharded(
        indexWith((name) => name),
        1,
      ),
      /a shard is missing: model-00002-of-00002\.safetensors \(the first of them holds tensor "/,
    ],
    ["an index of nothing", sharded(json({ weight_map: {} })), /weight_map is empty/],
    ["an adapter", [["adapter_config.json", json({})]], /has no config\.json: it is a PEFT adapter/],
    ["a GGUF", [["x.Q4_K_M.gguf", json({})]], /has no config\.json: it is GGUF/],
  ];
  for (const [what, repository, says, hint] of cases) {
    hubTest(what, async () => {
      await serve(new Map(repository));
      process.env["HF_ENDPOINT"] = server.url;
      const error = await failure(openBaseModel(gemma2({ checkpoint: ID })));
      expect(error.message).toMatch(says);
      if (hint !== undefined) expect(error.hint).toMatch(hint);
      const asked = server.requests.filter(({ path }) => path.endsWith(".safetensors"));
      expect(asked.filter(({ method }) => method === "GET")).toEqual([]);
    });
  }

  const single = (change: (tensors: ReturnType<typeof looseTensors>) => void): [string, Uint8Array][] => {
    const tensors = looseTensors();
    change(tensors);
    return [...files, ["model.safetensors", packTensors(tensors)]];
  };
  const byHeaders: [what: string, repository: [string, Uint8Array][], says: RegExp][] = [
    [
      "a linear in 16 bits by the header of the one file",
      single((tensors) => {
        for (const name of tensors.keys()) if (name.startsWith(`${down}.weight.`)) tensors.delete(name);
        tensors.set(`${down}.weight`, { dtype: "BF16", shape: [128, 512], bytes: Buffer.alloc(2 * 128 * 512) });
      }),
      /tiny\/gemma2-nf4\/model\.safetensors: tensor "model\.layers\.3\.mlp\.down_proj\.weight" is not quantized: BF16 \[128,512\]/,
    ],
    [
      "blocks of 96 by the header of the one file",
      single((tensors) => {
        const absmax = tensors.get(`${down}.weight.absmax`)!;
        absmax.shape = [682];
        absmax.bytes = absmax.bytes.subarray(0, 682);
      }),
      /down_proj\.weight\.absmax" has 682 blocks, expected blocks of 64 to 4096 of \[128,512\]/,
    ],
    [
      "a linear that is quantized though config.json keeps it in 16 bits",
      [
        ...single(() => {}),
        [
          "config.json",
          configWith({ quantization_config: { ...quantized, llm_int8_skip_modules: ["lm_head", down] } }),
        ],
      ],
      /tensor "model\.layers\.3\.mlp\.down_proj\.weight" is quantized .*, but config\.json says that it is not/,
    ],
    [
      "what is no safetensors file",
      [...files, ["model.safetensors", Buffer.from("\u0010\0\0\0\0\0\0\0<html>not weights")]],
      /tiny\/gemma2-nf4\/model\.safetensors: the header is a web page \(HTML\), not JSON/,
    ],
  ];
  for (const [what, repository, says] of byHeaders) {
    hubTest(what, async () => {
      await serve(new Map(repository));
      process.env["HF_ENDPOINT"] = server.url;
      expect((await failure(openBaseModel(gemma2({ checkpoint: ID })))).message).toMatch(says);
      const gets = server.requests.filter(({ path, host }) => host === "cdn" && path.endsWith("model.safetensors"));
      expect(gets.map(({ range }) => range?.startsWith("bytes=0-"))).toEqual([true]);
      expect(server.requests.some(({ path }) => path.includes("tokenizer"))).toBe(false);
      expect(
        existsSync(
          join(
            hub.cacheDir,
            "models--tiny--gemma2-nf4",
            "blobs",
            sha256(new Map(repository).get("model.safetensors")!),
          ),
        ),
      ).toBe(false);
    });
  }

  hubTest("what is as it should be arrives, and is judged before its weights", async () => {
    process.env["HF_ENDPOINT"] = server.url;
    const judged: number[] = [];
    const { source } = await openBaseModel(gemma2({ checkpoint: ID }), {
      onOutline: async ({ linears }) => {
        judged.push(server.requests.filter(({ path }) => path.endsWith(".safetensors")).length);
        expect(linears).toHaveLength(28);
      },
    });
    expect(judged[0]).toBe(0);
    expect((await source.outline(3)).vocabSize).toBe(4096);
  });
});

describe("a folder", () => {
  const folderOf = (path: string, change: (tensors: ReturnType<typeof looseTensors>) => void): string => {
    mkdirSync(path, { recursive: true });
    const tensors = looseTensors();
    change(tensors);
    writeFileSync(join(path, "model.safetensors"), packTensors(tensors));
    writeFileSync(join(path, "config.json"), JSON.stringify(looseConfig()));
    return path;
  };

  test("blocks of 96, by the count of absmax", async () => {
    await using folder = await temporaryFolder();
    const checkpoint = folderOf(join(folder.path, "base"), (tensors) => {
      const absmax = tensors.get(`${down}.weight.absmax`)!;
      absmax.shape = [682];
      absmax.bytes = absmax.bytes.subarray(0, 682);
    });
    expect(await failure(openBaseModel(gemma2({ checkpoint })))).toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: expect.stringMatching(/down_proj\.weight\.absmax" has 682 blocks, expected blocks of 64 to 4096/),
    });
  });

  test("inspect prints no NF4 of a base that is not, nor of one whose linear is not as config.json says", async () => {
    await using folder = await temporaryFolder();
    const checkpoint = folderOf(join(folder.path, "base"), (tensors) => {
      for (const name of tensors.keys()) if (name.startsWith(`${down}.weight.`)) tensors.delete(name);
      tensors.set(`${down}.weight`, { dtype: "BF16", shape: [128, 512], bytes: Buffer.alloc(2 * 128 * 512) });
    });
    const config = await smallRun(folder.path, { model: gemma2({ checkpoint }), adapter: lora() });
    expect((await failure(inspect(config))).message).toContain(
      `tensor "${down}.weight" is not quantized: BF16 [128,512] with no quant_state, expected quant_state.bitsandbytes__nf4`,
    );
    writeFileSync(join(checkpoint, "config.json"), configWith({ quantization_config: undefined }));
    expect((await failure(inspect(config))).message).toMatch(
      /q_proj\.weight" is quantized .*, but config\.json says that it is not/,
    );
  });

  test("what nothing reads is said once", async () => {
    await using folder = await temporaryFolder();
    const spare = { dtype: "F32", shape: [1], bytes: Buffer.alloc(4) };
    const checkpoint = folderOf(join(folder.path, "base"), (tensors) => {
      tensors.set("lm_head.weight", spare);
      tensors.set("score.weight", { dtype: "F32", shape: [3, 128], bytes: Buffer.alloc(4 * 384) });
      tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", spare);
    });
    const told: string[] = [];
    const onEvent = (event: RunEvent): void => void (event.type === "info" && told.push(event.message));
    await openBaseModel(gemma2({ checkpoint }), { onEvent });
    expect(told).toEqual([
      `${checkpoint}: 2 tensors that nothing reads: lm_head.weight, model.layers.0.self_attn.rotary_emb.inv_freq`,
    ]);
  });
});
