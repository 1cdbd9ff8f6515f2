/** Shares what was trained: an adapter or a merged model, with a card, to a repository of the hub. */
import { existsSync, openAsBlob } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ConfigError } from "../../core/errors.ts";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import { ADAPTER_CONFIG_FILE } from "../../core/formats/peft.ts";
import { defineRequest } from "../../core/options/request.ts";
import { isFolder } from "../../runtime/files/stat.ts";
import { NOTES_FILE } from "../../runtime/folder/adapter-notes.ts";
import { RUN_FILES } from "../../runtime/folder/folder.ts";
import { ADAPTER_FILES, readManifest, requireWhole } from "../../runtime/folder/manifest.ts";
import { hubEnvironment, type HubEnvironment } from "../../runtime/hub/index.ts";
import { checkRevision, isHubId } from "../../runtime/hub/reference.ts";
import { type UploadFile, uploadFiles, type UploadResult } from "../../runtime/hub/upload.ts";
import { readReportRun, type ReportRun, textAt } from "../../runtime/report/run.ts";
import type { EventOptions } from "../../runtime/run/train-types.ts";
import { modelCard } from "./card.ts";
import { lossCurve } from "./curve.ts";

/** What is pushed where. */
export interface PushRequest {
  /** Folder of a finished run, of a checkpoint, of an adapter, or of a merged model. */
  readonly folder: string;
  /** `org/name`; made where there is none. */
  readonly repo: string;
  /** Make a new repository public; default: private. */
  readonly public?: boolean | undefined;
  /** Default: main. */
  readonly branch?: string | undefined;
  /** The base on the hub, where the adapter was trained from a folder: written into its config and the card. */
  readonly baseModel?: string | undefined;
}

/** How a push is watched and stopped, and to which hub it goes. */
export interface PushOptions extends EventOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default: that of the environment (HF_TOKEN, HF_ENDPOINT). */
  readonly hub?: HubEnvironment | undefined;
}

/** What was pushed. */
export interface PushResult extends UploadResult {
  readonly kind: "adapter" | "merged";
}

const checkRequest = defineRequest<PushRequest>("push", {
  folder: "string",
  repo: "string",
  public: "boolean?",
  branch: "string?",
  baseModel: "string?",
});

/**
 * Pushes an adapter (of a run, a checkpoint or PEFT's) or a merged model, with a model card and the curve of its run. The repository is
 * private unless `public`; files that lie there already are left, so a push that was cut goes on.
 * @throws ConfigError, ModelError, QloraError HUB_TOKEN_MISSING, HUB_PUSH_FAILED
 */
export async function push(request: PushRequest, options: PushOptions = {}): Promise<PushResult> {
  const { folder, repo, branch = "main", baseModel: given, ...rest } = checkRequest(request);
  const { hub = hubEnvironment(), onEvent, signal } = options;
  if (!isHubId(repo)) {
    throw new ConfigError("PUSH_REPO", `repo: got ${JSON.stringify(repo)}, expected org/name`, {
      hint: "Give --repo me/gemma-2-9b-lmsys, say.",
    });
  }
  checkRevision(branch);
  const kind = await kindOf(folder);
  const run = await runOf(folder);
  const recorded = run === undefined ? undefined : textAt(run.record, "baseModel.name");
  const baseModel =
    given ?? (recorded !== undefined && isHubId(recorded) && !isFolder(recorded) ? recorded : undefined);
  const curve = run === undefined ? undefined : lossCurve(run.history);
  const files = kind === "adapter" ? await adapterFiles(folder, baseModel) : await mergedFiles(folder);
  if (kind === "adapter" && baseModel === undefined) {
    const message = "the base is a folder of this machine; others need its name on the hub: --base-model org/name";
    onEvent?.({ type: "warning", message });
  }
  const card = modelCard({ repo, kind, baseModel, run, hasCurve: curve !== undefined });
  const written: UploadFile[] = [
    ...files,
    ...(curve === undefined ? [] : [{ path: "curve.svg", content: new Blob([curve]) }]),
    { path: "README.md", content: new Blob([card]) },
  ];
  const visibility = rest.public === true ? "public" : "private";
  const title = `Upload ${kind} with qlora`;
  const result = await uploadFiles(hub, written, { repo, branch, visibility, title, onEvent, signal });
  if (!result.created) onEvent?.({ type: "info", message: `${repo} was there: who can see it stays as it is` });
  return { kind, ...result };
}

async function kindOf(folder: string): Promise<PushResult["kind"]> {
  const has = (name: string): boolean => existsSync(join(folder, name));
  if (ADAPTER_FILES.every(has)) {
    const manifest = await readManifest(folder);
    if (manifest !== undefined) await requireWhole(folder, manifest, ADAPTER_FILES);
    return "adapter";
  }
  const names = isFolder(folder) ? await readdir(folder) : [];
  if (has("config.json") && names.some((name) => name.endsWith(".safetensors"))) return "merged";
  throw new ConfigError("PUSH_FOLDER", `${folder}: holds neither an adapter nor a merged model`, {
    hint: has(RUN_FILES.record)
      ? "The run has not ended: push one of its checkpoints, or resume it."
      : "Give the folder of a finished run, a checkpoint, an adapter, or what qlora merge wrote.",
  });
}

/** The run of a folder or of the one above it; undefined where neither is one's. */
async function runOf(folder: string): Promise<ReportRun | undefined> {
  const place = [folder, dirname(resolve(folder))].find((path) => existsSync(join(path, RUN_FILES.record)));
  return place === undefined ? undefined : readReportRun(place);
}

const fileOf = async (folder: string, path: string): Promise<UploadFile> => ({
  path,
  content: await openAsBlob(join(folder, path)),
});

async function adapterFiles(folder: string, baseModel: string | undefined): Promise<UploadFile[]> {
  const names = [...ADAPTER_FILES, NOTES_FILE].filter((name) => existsSync(join(folder, name)));
  return Promise.all(
    names.map(async (name) => {
      if (name !== ADAPTER_CONFIG_FILE || baseModel === undefined) return fileOf(folder, name);
      const path = join(folder, name);
      const config = parseJsonObject(await readFile(path, "utf8"), damaged(path, "Restore the file."));
      const renamed = { ...config, base_model_name_or_path: baseModel };
      return { path: name, content: new Blob([JSON.stringify(renamed, null, 2)]) };
    }),
  );
}

/** What transformers reads, and no file of ours beside it. */
async function mergedFiles(folder: string): Promise<UploadFile[]> {
  const names = (await readdir(folder)).filter((name) => /\.(safetensors|json|model|txt|jinja)$/.test(name));
  return Promise.all(names.toSorted().map((name) => fileOf(folder, name)));
}
