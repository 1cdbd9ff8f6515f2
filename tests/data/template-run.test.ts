/** A template of a config's own is written into run.json, and evaluation and prediction make texts by it again. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defineOptions, option } from "../../core/options/options.ts";
import { isPluginFactory } from "../../core/plugin/factory.ts";
import { defineTemplate } from "../../core/plugin/template.ts";
import * as plugins from "../../plugins/index.ts";
import { evaluateAdapter, predictWithAdapter } from "../../sdk/inference.ts";
import { metaConfig, metaGpus, metaModel, metaTrain, onMeta } from "../support/meta-run.ts";
import { temporaryFolder } from "../support/run.ts";
import { tempFile } from "./files.ts";

const texts: string[] = [];
const asked = defineTemplate({
  name: "asked",
  options: defineOptions({ end: option("string", { default: "?", help: "the end" }) }),
  create: ({ end }) => ({
    parts: (row) => {
      texts.push(`${row.text("text")}${end}`);
      return [{ head: "", text: row.text("text"), tail: end, field: "prompt" }];
    },
  }),
});

test("run.json names it with its options; eval, predict and a flag against it", async () => {
  await using folder = await temporaryFolder();
  const rows = tempFile("rows.jsonl", ["a", "b"].map((text, label) => JSON.stringify({ text, label })).join("\n"));
  const data = { trainFiles: [rows], maxLength: 32 };
  const config = await metaConfig(folder.path, { template: asked({ end: "!" }), data });
  const { outputDir } = await metaTrain(config);
  const record = JSON.parse(readFileSync(join(outputDir, "run.json"), "utf8"));
  expect(record.config.template).toEqual({ name: "asked", options: { end: "!" } });
  expect(new Set(texts)).toEqual(new Set(["a!", "b!"]));

  const shipped = [asked, metaModel, ...Object.values(plugins).filter((value) => isPluginFactory(value))];
  const context = { shipped, from: folder.path };
  const again = async (run: () => Promise<unknown>): Promise<string[]> => {
    texts.length = 0;
    await onMeta(metaGpus(), run);
    return [...new Set(texts)];
  };
  const other = tempFile("other.jsonl", '{"text":"c","label":0}');
  const request = { run: outputDir, files: [other] };
  expect(await again(() => predictWithAdapter(request, context))).toEqual(["c!"]);
  expect(await again(() => evaluateAdapter(request, context))).toEqual(["c!"]);
  expect(await again(() => predictWithAdapter({ ...request, data: { template: "{text}." } }, context))).toEqual([]);
});
