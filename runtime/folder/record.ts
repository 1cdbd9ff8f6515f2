/** What a run's folder says about itself, for the commands that use what it trained. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { GpuInfo } from "../../core/device/probe.ts";
import { ModelError } from "../../core/errors.ts";
import { isObject, parseJsonObject } from "../../core/formats/json-object.ts";
import { formatValue } from "../../core/options/describe.ts";
import { type Task, TASKS } from "../../core/plugin/task.ts";
import { version } from "../../core/util/version.ts";
import { type Config, configToJson } from "../config/config.ts";
import type { SpecialSettings } from "../data/special-tokens.ts";
import { hostName, hostVersion } from "../host.ts";
import { planRecord } from "../planning/format.ts";
import type { MemoryPlan, RecordedMemory } from "../planning/settings.ts";
import { id2label } from "./adapter-notes.ts";
import { RUN_FILES } from "./folder.ts";
import { isLineage, type Lineage } from "./lineage.ts";

/** A plugin by name, with its options, as run.json stores it. */
export interface RecordedPlugin {
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** What the command line found it by, where it does not ship with qlora. */
  readonly from?: string;
}

/** The part of run.json that later commands read. */
export interface RunRecord {
  readonly config: {
    readonly model: RecordedPlugin;
    readonly adapter: RecordedPlugin;
    readonly metrics: readonly RecordedPlugin[];
    /** Only where the config brought one of its own. */
    readonly template?: RecordedPlugin;
    /** Undefined: classification, all that versions before had. */
    readonly task?: { readonly task?: Task };
    readonly data: Readonly<Record<string, unknown>>;
    readonly training: Readonly<Record<string, unknown>>;
  };
  /** id2label only where classes have names. */
  readonly data: { readonly numLabels: number; readonly id2label?: Readonly<Record<string, string>> };
  /** What stood around the texts; undefined for a checkpoint without a tokenizer, and for runs of version 0.1.0. */
  readonly specialTokens?: SpecialSettings;
  /** What the memory plan settled. */
  readonly memory?: RecordedMemory;
  /** The checkpoint as the config names it; `sha` is the commit of a hub model. */
  readonly baseModel?: { readonly name: string; readonly sha?: string };
  /** The starts that led to where the run stands; qlora 0.1.0 wrote none. */
  readonly lineage?: Lineage;
}

/** What a run knows of itself when it starts. */
export interface RunFacts {
  readonly config: Config;
  readonly device: GpuInfo;
  /** Devices of all ranks, and the MPI library between them. */
  readonly ranks: readonly { readonly uuid?: string | undefined }[];
  readonly mpi: string | undefined;
  readonly baseModel: { readonly name: string; readonly sha: string | undefined; readonly directory: string };
  readonly plan: MemoryPlan;
  readonly model: Readonly<Record<string, unknown>>;
  readonly data: {
    readonly fingerprint: string;
    readonly trainRows: number;
    readonly evalRows: number;
    readonly numLabels: number;
  };
  readonly labelNames: readonly string[] | undefined;
  readonly specialTokens: SpecialSettings | undefined;
  readonly trainableParameters: number;
  readonly totalSteps: number;
  readonly lineage: Lineage;
}

/** run.json of a run that starts now. */
export function newRunRecord({
  config,
  plan,
  labelNames,
  data,
  ranks,
  mpi,
  ...facts
}: RunFacts): Readonly<Record<string, unknown>> {
  const { device, baseModel, model, specialTokens, trainableParameters, totalSteps, lineage } = facts;
  return {
    qlora: version,
    [hostName]: hostVersion,
    config: configToJson(config),
    device,
    ...(ranks.length === 1 && ranks[0]?.uuid === undefined ? {} : { ranks, mpi }),
    baseModel,
    memory: planRecord(plan),
    model,
    data: { ...data, id2label: labelNames && id2label(labelNames) },
    specialTokens,
    trainableParameters,
    totalSteps,
    lineage,
    startedAt: new Date().toISOString(),
  };
}

/** run.json of a run's folder, or of the run that a checkpoint's folder belongs to. @throws ModelError */
export async function readRunRecord(directory: string): Promise<RunRecord | undefined> {
  return (await readOwnRecord(directory)) ?? readOwnRecord(dirname(resolve(directory)));
}

/** run.json of this very folder. @throws ModelError */
export async function readOwnRecord(directory: string): Promise<RunRecord | undefined> {
  const path = join(directory, RUN_FILES.record);
  return existsSync(path) ? parseRunRecord(await readFile(path, "utf8"), path) : undefined;
}

/**
 * The record that the text of a run.json holds.
 * @throws ModelError RUN_DAMAGED listing every problem
 */
export function parseRunRecord(text: string, path: string): RunRecord {
  const refuse = (problem: string, cause?: unknown): ModelError =>
    new ModelError("RUN_DAMAGED", `${path}: expected the record of a run of qlora train, ${problem}`, {
      hint: "Restore it; or move it away, and give the files and --base-model.",
      cause,
    });
  // Version 0.1.0 spelled one option of models otherwise.
  const spelled = text.replaceAll('"keepDequantised"', '"keepDequantized"');
  const json = parseJsonObject(spelled, (problem, cause) => refuse(`but it ${problem}`, cause));
  const problems = recordProblems(json);
  if (problems.length === 0) return json as unknown as RunRecord;
  throw refuse(`got something else: ${problems.join("; ")}`);
}

type Json = Readonly<Record<string, unknown>>;

function recordProblems(json: Json): string[] {
  const problems: string[] = [];
  const expect = (right: boolean, name: string, value: unknown, expected: string): void => {
    if (!right) problems.push(`${name} is ${formatValue(value)}, expected ${expected}`);
  };
  const object = (parent: Json, key: string, name: string): Json => {
    const value = own(parent, key);
    expect(isObject(value), name, value, "an object");
    return isObject(value) ? value : {};
  };
  const plugin = (value: unknown, name: string): void => {
    const { name: given, options, from } = isObject(value) ? value : {};
    const right = typeof given === "string" && isObject(options) && (from === undefined || typeof from === "string");
    expect(right, name, value, "a plugin's name and options");
  };
  const config = object(json, "config", "config");
  for (const kind of ["model", "adapter"]) plugin(own(config, kind), `config.${kind}`);
  const template = own(config, "template");
  if (template !== undefined) plugin(template, "config.template");
  const metrics = own(config, "metrics");
  expect(Array.isArray(metrics), "config.metrics", metrics, "a list");
  if (Array.isArray(metrics)) metrics.forEach((metric, i) => plugin(metric, `config.metrics[${i}]`));
  for (const section of ["data", "training"]) object(config, section, `config.${section}`);
  const task = own(config, "task");
  expect(task === undefined || isTaskSection(task), "config.task", task, `one of ${TASKS.join(", ")} in an object`);
  const { numLabels } = object(json, "data", "data");
  expect(Number.isSafeInteger(numLabels) && Number(numLabels) > 0, "data.numLabels", numLabels, "a number of classes");
  const { memory, baseModel, lineage } = json;
  expect(memory === undefined || isMemory(memory), "memory", memory, "a mode and settings");
  const { name, sha } = isObject(baseModel) ? baseModel : {};
  const named = typeof name === "string" && (sha === undefined || sha === null || typeof sha === "string");
  expect(baseModel === undefined || named, "baseModel", baseModel, "a name and perhaps a commit");
  expect(lineage === undefined || isLineage(lineage), "lineage", lineage, "a list of the run's starts");
  return problems;
}

const isTaskSection = (value: unknown): boolean => isObject(value) && TASKS.some((task) => task === value["task"]);

const own = (json: Json, key: string): unknown => (Object.hasOwn(json, key) ? json[key] : undefined);

function isMemory(value: unknown): boolean {
  if (!isObject(value) || typeof value["mode"] !== "string" || !isObject(value["settings"])) return false;
  const { checkpointing, tokenBudget, embeddings, keepDequantized } = value["settings"];
  return (
    typeof checkpointing === "string" &&
    (tokenBudget === undefined || tokenBudget === null || Number(tokenBudget) > 0) &&
    typeof embeddings === "string" &&
    typeof keepDequantized === "boolean"
  );
}
