/** Adapters are judged on the tokens that they were trained on. */
import { describe, expect, test } from "bun:test";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { averageAdapters, predict, type PredictRequest, train } from "../../index.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import type { ArenaRow } from "../../runtime/data/formats/arena.ts";
import { rowText } from "../../runtime/data/row.ts";
import { loadTokenizer } from "../../runtime/data/tokenizer.ts";
import { expectClose } from "../support/close.ts";
import { tiers } from "../support/gpu.ts";
import { goldenPath, tinyCheckpoint } from "../support/reference.ts";
import { smallRun, temporaryFolder } from "../support/run.ts";

const device = { tier: "f32" } as const;
const pandalm = ["pandalm-1.csv", "pandalm-2.csv"].map((name) => goldenPath("pandalm", name));
const parity = goldenPath("parity-tiny");

/** Logits, and what was said of special tokens. */
async function judge(request: PredictRequest) {
  const said: string[] = [];
  const onEvent = (event: { readonly type: string; readonly message?: string }): void => {
    if (event.message?.startsWith("special tokens") === true) said.push(event.message);
  };
  const { rows } = await predict({ device, logits: true, ...request }, { onEvent });
  return { logits: rows.flatMap(({ values }) => values), said };
}

describe.skipIf(tiers.length === 0)("an adapter made elsewhere", () => {
  test("follows its tokenizer's files, then its base's; with an eos asked for, its logits are peft's", async () => {
    await using folder = await temporaryFolder();
    const reference = JSON.parse(await readFile(join(parity, "reference.json"), "utf8")) as {
      readonly samples: readonly { readonly input_ids: readonly number[] }[];
      readonly logits: readonly (readonly number[])[];
    };
    // The samples' texts are PandaLM's; each is known by its ids.
    const rows = (await loadDataset(pandalm)).rows as readonly ArenaRow[];
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    const { ids, lengths } = await tokenizer.encodeBatch(
      rows.map((row) => rowText(row)),
      { maxLength: 128 },
    );
    let at = 0;
    const keys = [...lengths].map((length) => ids.subarray(at, (at += length)).join());
    const texts = reference.samples.map(({ input_ids: own }) => rowText(rows[keys.indexOf(own.join())]!));
    const write = async (name: string, values: readonly object[]): Promise<string> => {
      const path = join(folder.path, name);
      await writeFile(path, values.map((value) => `${JSON.stringify(value)}\n`).join(""));
      return path;
    };
    const file = await write(
      "texts.jsonl",
      texts.map((text) => ({ text })),
    );
    const run = join(folder.path, "adapter");
    await cp(join(parity, "adapter"), run, { recursive: true });
    const request = { run, files: [file], baseModel: tinyCheckpoint };
    const cut = { maxLength: 128, cacheDir: join(folder.path, "cache") };

    const asked = await judge({ ...request, data: { ...cut, addEosToken: true } });
    expectClose(Float32Array.from(asked.logits), reference.logits.flat(), { atol: 1e-4 }, "logits");
    expect(asked.said).toEqual([
      "special tokens: bos added (tokenizer_config.json of the base model), eos added (as asked)",
    ]);

    // All samples were cut to 128 tokens, the eos included.
    const bare = await write(
      "bare.jsonl",
      reference.samples.map((sample) => ({ input_ids: sample.input_ids.slice(0, -1) })),
    );
    const without = (await judge({ ...request, files: [bare] })).logits;
    const plain = await judge({ ...request, data: { ...cut, maxLength: 127 } });
    expectClose(Float32Array.from(plain.logits), without, { atol: 1e-5 }, "without eos");
    expect(plain.said).toEqual(["special tokens: bos added, eos not added (tokenizer_config.json of the base model)"]);

    // PEFT's users save the tokenizer that they trained with beside the adapter.
    await writeFile(join(run, "tokenizer_config.json"), '{"add_bos_token":true,"add_eos_token":true}');
    const beside = await judge({ ...request, data: cut });
    expect(beside.logits).toEqual(asked.logits);
    expect(beside.said).toEqual(["special tokens: bos added, eos added (tokenizer_config.json beside the adapter)"]);
  }, 300_000);
});

describe.skipIf(tiers.length === 0)("a run", () => {
  test("records what it added; predict follows it, and what is asked for before it", async () => {
    await using folder = await temporaryFolder();
    const file = join(folder.path, "rows.jsonl");
    await writeFile(file, '{"text":"name a color"}\n{"text":"two and two"}\n');
    const trained = async (name: string, data: { addEosToken?: boolean; addBosToken?: boolean }) => {
      const training = { maxSteps: 1, outputDir: join(folder.path, name) };
      const { outputDir: run } = await train(await smallRun(folder.path, { device, training, data }));
      const record = JSON.parse(await readFile(join(run, "run.json"), "utf8")) as Record<string, unknown>;
      return { record, request: { run, files: [file] } };
    };
    const usual = await trained("usual", {});
    expect(usual.record["specialTokens"]).toEqual({ addBosToken: true, addEosToken: true });
    const both = await judge(usual.request);
    expect(both.said).toEqual(["special tokens: bos added, eos added (as the run recorded)"]);

    const bare = await trained("bare", { addBosToken: false, addEosToken: false });
    expect(bare.record["specialTokens"]).toEqual({ addBosToken: false, addEosToken: false });
    const neither = await judge(bare.request);
    expect(neither.said).toEqual(["special tokens: bos not added, eos not added (as the run recorded)"]);

    const denied = await judge({ ...usual.request, data: { addBosToken: false, addEosToken: false } });
    expect(denied.said).toEqual(["special tokens: bos not added, eos not added (as asked)"]);
    expect(denied.logits).not.toEqual(both.logits);
    const tokenizer = await loadTokenizer(tinyCheckpoint);
    const { ids, lengths } = await tokenizer.encodeBatch(["name a color", "two and two"], {
      addBos: false,
      addEos: false,
    });
    const tokens = join(folder.path, "ids.jsonl");
    const first = lengths[0]!;
    const lists = [ids.subarray(0, first), ids.subarray(first)].map((list) => JSON.stringify({ input_ids: [...list] }));
    await writeFile(tokens, lists.join("\n"));
    const raw = await judge({ ...usual.request, files: [tokens] });
    expect(raw).toEqual({ logits: denied.logits, said: [] });

    // An adapter moved away from its run's record, and a mean of adapters, are still run as they were trained.
    const moved = join(folder.path, "moved");
    await cp(bare.request.run, moved, { recursive: true });
    await rm(join(moved, "run.json"));
    expect(await judge({ ...bare.request, run: moved })).toEqual({
      logits: neither.logits,
      said: ["special tokens: bos not added, eos not added (qlora.json beside the adapter)"],
    });
    const mean = await averageAdapters({ adapters: [moved, bare.request.run], outputDir: join(folder.path, "mean") });
    expect((await judge({ ...bare.request, run: mean.outputDir })).logits).toEqual(neither.logits);
    const mixed = averageAdapters({ adapters: [moved, usual.request.run], outputDir: join(folder.path, "mixed") });
    expect(await mixed.catch((error: unknown) => error)).toMatchObject({ code: "ADAPTERS_DIFFER" });

    // 0.1.0 recorded nothing, and added eos whatever the files say.
    const { specialTokens: _, ...earlier } = usual.record;
    await writeFile(join(usual.request.run, "run.json"), JSON.stringify(earlier));
    expect(await judge(usual.request)).toEqual({
      ...both,
      said: ["special tokens: bos added, eos added (as version 0.1.0 trained)"],
    });
    await writeFile(
      join(usual.request.run, "run.json"),
      JSON.stringify({ ...earlier, specialTokens: { addBosToken: 1 } }),
    );
    expect(await judge(usual.request).catch((error: unknown) => error)).toMatchObject({ code: "RUN_DAMAGED" });
  }, 300_000);
});
