/** A trained judge as a web page: static files that load it in a browser and judge pasted texts on the visitor's own GPU. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ConfigError, ModelError, QloraError } from "../core/errors.ts";
import { defineRequest } from "../core/options/request.ts";
import type { PluginFactory } from "../core/plugin/factory.ts";
import { version } from "../core/util/version.ts";
import type { DataOptionsInput } from "../runtime/config/data-options.ts";
import { classMirror } from "../runtime/data/swap.ts";
import { templateContext } from "../runtime/data/templates/context.ts";
import { namedTemplate } from "../runtime/data/templates/index.ts";
import { loadTokenizer } from "../runtime/data/tokenizer.ts";
import { writeFileAtomic, writeFolderAtomic } from "../runtime/files/files.ts";
import { openFolder } from "../runtime/files/folder.ts";
import { findAdapter, type TrainedAdapter } from "../runtime/folder/find-adapter.ts";
import { labelNamesOf } from "../runtime/folder/label-names.ts";
import { openAdapterRun, requestData } from "../runtime/inference/adapter-run.ts";
import { inferenceSpecials } from "../runtime/run/specials.ts";
import { checkEventOptions, type EventOptions } from "../runtime/run/train-types.ts";
import { modelForCheckpoint } from "../runtime/session/base-model.ts";
import { MANIFEST, siteBytes, type SiteManifest } from "../web/manifest.ts";
import { shippedAdapter, shippedModel } from "../web/parts.ts";
import { browserDevice, planJudge } from "../web/plan.ts";
import { probabilityColumns } from "./probabilities.ts";
import { resolveContext } from "./shipped.ts";
import { exampleRow, formatOfRun } from "./site/row.ts";
import { digestFiles, writeModelFiles } from "./site/files.ts";

/** A trained adapter, and where its page goes. */
export interface ExportWebRequest {
  /** Output folder of a run, one of its checkpoints, or a PEFT adapter's folder. */
  readonly run: string;
  /** A new or empty folder. */
  readonly outputDir: string;
  /** Replace a page that the folder holds; any other folder is refused. Default false. */
  readonly overwrite?: boolean | undefined;
  /** Heading of the page; default: the run's folder. */
  readonly title?: string | undefined;
  /** Folder or hub id of the base model, where it is another than the run's. */
  readonly baseModel?: string | undefined;
  /** How texts become tokens; default: as the run was trained. */
  readonly data?: DataOptionsInput | undefined;
}

/** What `exportWeb` gives. */
export interface ExportWebResult {
  readonly outputDir: string;
  readonly files: number;
  /** What a visitor downloads once. */
  readonly downloadBytes: number;
  /** Most bytes of GPU memory at once for the longest text, by tier, as planned for desktop Chrome. */
  readonly gpuBytes: Readonly<Record<"f16" | "f32", number>>;
  /** Names of the classes, in their order. */
  readonly classes: readonly string[];
}

const check = defineRequest<ExportWebRequest>("exportWeb", {
  run: "string",
  outputDir: "string",
  overwrite: "boolean?",
  title: "string?",
  baseModel: "string?",
  data: "object?",
});

/** The page's own script, markup and style, which the package's build makes. */
const PAGE = fileURLToPath(new URL("../dist/web/", import.meta.url));

/**
 * Writes a page that judges in the browser: the base model's weights, the adapter and the tokenizer, which the page downloads by
 * HTTP ranges and keeps, and its script. Any static server that answers ranges can serve it.
 * @throws QloraError of every kind
 * @example const { downloadBytes } = await exportWeb({ run, outputDir: `${outputDir}/site` });
 */
export async function exportWeb(request: ExportWebRequest, options: EventOptions = {}): Promise<ExportWebResult> {
  const { onEvent } = checkEventOptions(options);
  const { outputDir, overwrite = false, title = basename(resolve(request.run)) } = check(request);
  await checkSiteFolder(outputDir, overwrite);
  const page = await pageFiles();
  const trained = await findAdapter(request.run);
  requireShipped(trained, request.run);
  const data = requestData(request, trained.record?.config.data);
  const plugins = resolveContext();
  const run = await openAdapterRun(request, trained, plugins, onEvent);
  const { source, numLabels, baseModel, task } = run;
  if (task.task !== "classification")
    throw new ModelError("SITE_TASK", `${request.run}: got the task ${task.task}, expected classification`, {
      hint: "A page shows probabilities of classes. Serve other tasks with qlora serve.",
    });
  // A folder's path says where it lay on this machine, and a page is for everybody.
  const published = existsSync(baseModel) ? basename(resolve(baseModel)) : baseModel;
  const format = await formatOfRun(data, trained);
  const plugin = run.template ?? namedTemplate(data.template);
  const example = exampleRow(format, plugin?.create(await templateContext(source.checkpoint)));
  const labelNames = labelNamesOf(trained);
  const columns = probabilityColumns(example.dataset, numLabels, labelNames);
  const names = format.classes?.names;
  const specials = inferenceSpecials(source.checkpoint, data, trained);
  if (!existsSync(join(source.checkpoint, "tokenizer.json")))
    throw new ModelError(
      "TOKENIZER_MISSING",
      `${source.checkpoint}: there is no tokenizer.json, which a page tokenizes with`,
      {
        hint: "Save it with transformers (save_pretrained) beside the weights.",
      },
    );
  const tokenizer = await loadTokenizer(source.checkpoint);
  const { before, after } = tokenizer.specials({ addBos: specials?.addBosToken, addEos: specials?.addEosToken });
  const outline = await source.outline(numLabels);
  const described: Omit<SiteManifest, "files" | "chunkBytes"> = {
    version: 1,
    qlora: version,
    title,
    baseModel: published,
    model: await modelOf(trained, source.checkpoint, plugins.shipped),
    numLabels,
    columns,
    labels: labelNames ?? (names?.length === numLabels ? names : columns),
    fields: example.fields,
    content: example.content,
    mirror: classMirror(format, numLabels),
    tokens: {
      before,
      after,
      maxLength: data.maxLength,
      truncation: data.truncate,
      promptMaxTokens: data.promptMaxTokens,
    },
  };
  const told = (done: number, total: number): void =>
    onEvent?.({ type: "progress", what: "writing the page", done, total, unit: "bytes" });
  let manifest: SiteManifest | undefined;
  await writeFolderAtomic(outputDir, async (folder) => {
    const written = await writeModelFiles(
      folder,
      { base: source.checkpoint, adapter: trained.directory, baseModel: published, outline },
      told,
    );
    manifest = { ...described, ...(await digestFiles(folder, written)) };
    for (const [name, bytes] of page) await writeFileAtomic(join(folder, name), bytes);
    await writeFileAtomic(join(folder, MANIFEST), `${JSON.stringify(manifest, undefined, 1)}\n`);
  });
  const folders = { model: openFolder(join(outputDir, "model")), adapter: openFolder(join(outputDir, "adapter")) };
  const planned = async (tier: "f16" | "f32"): Promise<number> =>
    (await planJudge(manifest!, folders, browserDevice(tier))).memoryBytes;
  return {
    outputDir,
    files: Object.keys(manifest!.files).length + page.size + 1,
    downloadBytes: siteBytes(manifest!),
    gpuBytes: { f16: await planned("f16"), f32: await planned("f32") },
    classes: manifest!.labels,
  };
}

/** What the model's options say of numbers; where things lie, the page settles itself. */
function siteOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { checkpoint: _c, revision: _r, embeddings: _e, keepDequantized: _k, ...rest } = options;
  return rest;
}

/** A page runs no plugin but those that ship. @throws ModelError SITE_PLUGIN */
function requireShipped({ record, config }: TrainedAdapter, run: string): void {
  const refuse = (what: string): ModelError =>
    new ModelError("SITE_PLUGIN", `${run}: ${what} does not ship with qlora, and a page runs no other code`, {
      hint: "Use it with qlora predict.",
    });
  if (shippedAdapter(config) === undefined)
    throw refuse(`an adapter of peft_type ${JSON.stringify(config["peft_type"])}`);
  const model = record?.config.model;
  if (model !== undefined && (model.from !== undefined || shippedModel(model.name) === undefined))
    throw refuse(`the model plugin ${model.name}`);
}

/** The model plugin by the run's record, else the one that reads the base. */
async function modelOf(
  { record }: TrainedAdapter,
  checkpoint: string,
  shipped: readonly PluginFactory[],
): Promise<SiteManifest["model"]> {
  const recorded = record?.config.model;
  if (recorded !== undefined) return { name: recorded.name, options: siteOptions(recorded.options) };
  return { name: (await modelForCheckpoint(checkpoint, shipped)).name, options: {} };
}

/** @throws QloraError where a checkout has not been built */
async function pageFiles(): Promise<ReadonlyMap<string, Uint8Array>> {
  const names = ["index.html", "judge.css", "judge.js"];
  const missing = names.find((name) => !existsSync(join(PAGE, name)));
  if (missing !== undefined)
    throw new QloraError("PAGE_NOT_BUILT", `${join(PAGE, missing)}: there is no such file`, {
      hint: "In a checkout of qlora, make it with bun run build; otherwise install the package again.",
    });
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(PAGE, name))] as const)));
}

/** @throws ConfigError for a folder that holds anything else than a page to replace */
async function checkSiteFolder(outputDir: string, overwrite: boolean): Promise<void> {
  const held = await readdir(outputDir).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === "ENOENT") return [];
    if (error.code !== "ENOTDIR") throw error;
    throw new ConfigError("OUTPUT_NOT_A_FOLDER", `${outputDir}: is a file, expected a new or empty folder`, {
      hint: "Name another folder.",
    });
  });
  if (held.length === 0 || (overwrite && held.includes(MANIFEST))) return;
  const [code, expected, hint]: readonly [string, string, string] = overwrite
    ? [
        "OUTPUT_NOT_REPLACED",
        `a page to overwrite, found no ${MANIFEST}`,
        "Nothing was deleted. Name a new folder, or empty this one yourself.",
      ]
    : [
        "OUTPUT_NOT_EMPTY",
        `a new or empty folder, found ${held[0]}`,
        "Name another folder, or replace a page with --overwrite.",
      ];
  throw new ConfigError(code, `${outputDir}: expected ${expected}`, { hint });
}
