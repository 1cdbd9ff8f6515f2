/** The files of a run's folder and of its checkpoints, damaged. */
import { afterAll } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadAdapterTensors } from "../../core/adapter/files.ts";
import { ParameterSet } from "../../core/compute/parameters.ts";
import { NVIDIA, metaGpu } from "../../core/device/meta.ts";
import { QloraError } from "../../core/errors.ts";
import { damaged, parseJsonObject } from "../../core/formats/json-object.ts";
import type { OptimizerPlugin } from "../../core/plugin/optimizer.ts";
import { adamW8bit, lora, sgd } from "../../plugins/index.ts";
import { trainingOptions } from "../../runtime/config/training-options.ts";
import { openFolder, writeFiles, writeSafetensors } from "../../runtime/files/folder.ts";
import { parseEvaluation } from "../../runtime/folder/evaluation-record.ts";
import { findAdapter } from "../../runtime/folder/find-adapter.ts";
import { isOnLine, UNRECORDED } from "../../runtime/folder/lineage.ts";
import { readManifest, requireWhole, writeManifest } from "../../runtime/folder/manifest.ts";
import { parseTrainingState } from "../../runtime/folder/parse-state.ts";
import { parseRunRecord } from "../../runtime/folder/record.ts";
import { formatTrainerState, parseTrainerState } from "../../runtime/folder/trainer-state.ts";
import { readOptimizerState } from "../../runtime/folder/training-state.ts";
import { parseMetrics } from "../../runtime/report/run.ts";
import { resolveResume } from "../../runtime/run/resume.ts";
import { verifyRun } from "../../sdk/verify.ts";
import { metaConfig, metaGpus, metaTrain } from "../support/meta-run.ts";
import { fuzz, type FuzzInput } from "./harness.ts";

const root = mkdtempSync(join(tmpdir(), "qlora-fuzz-run-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = await metaConfig(root, { data: { nSplits: 3 }, training: { evalStrategy: "epoch", maxSteps: 3 } });
await metaTrain(
  config,
  {},
  metaGpus((step) => (step === 2 ? Number.NaN : 0.5)),
);
const run = config.training.outputDir;
const checkpoint = join(run, "checkpoint-3");
const lineage = [{ line: "00000000-0000-4000-8000-000000000000", from: 0 }];

/** The same inputs every time: what depends on the clock, the machine or the folder's name is put in fixed words. */
for (const name of [
  "run.json",
  "trainer_state.json",
  "metrics.jsonl",
  ...["trainer_state.json", "training_state.json"].map((file) => join("checkpoint-3", file)),
]) {
  const path = join(run, name);
  const fixed = readFileSync(path, "utf8")
    .replace(/"line": "[^"]*"/g, `"line": "${lineage[0]!.line}"`)
    .replace(/"startedAt": "[^"]*"/, '"startedAt": "2025-01-01T00:00:00.000Z"')
    .replace(/("(?:\w+_)?(?:runtime|per_second)": ?)[\d.e+-]+/g, "$11.5")
    .replaceAll(root, "/tmp/run");
  writeFileSync(path, fixed);
}
await writeManifest(checkpoint, { step: 3, lineage });

const text = (name: string): string => readFileSync(join(run, name), "utf8");
const asObject = (input: FuzzInput): Readonly<Record<string, unknown>> =>
  parseJsonObject(input.bytes, damaged("x.json", "Restore it."));

const trainer = parseTrainerState(text("checkpoint-3/trainer_state.json"), "trainer_state.json");

fuzz({
  name: "training_state",
  kind: "json",
  corpus: [text("checkpoint-3/training_state.json")],
  run: (input) => {
    const state = parseTrainingState(asObject(input), trainer, "training_state.json");
    const counts = [state.step, state.updates, state.skipped, state.tokens, state.nonFinite, state.samplesPerStep];
    if (!counts.every((count) => Number.isSafeInteger(count) && count >= 0)) throw new Error(`counts ${counts.join()}`);
    if (state.updates + state.skipped !== state.step || state.step !== trainer.globalStep)
      throw new Error("steps do not add up");
    if (!Number.isFinite(state.totalLoss / (state.step - state.nonFinite || 1))) throw new Error("no mean loss");
  },
});

const readTrainer = (input: FuzzInput): void => {
  const state = parseTrainerState(input.text, "trainer_state.json");
  parseTrainerState(formatTrainerState(state), "again");
};
const trainerText = text("checkpoint-3/trainer_state.json");

fuzz({ name: "trainer_state", kind: "json", corpus: [trainerText.replaceAll("NaN", "0.5")], run: readTrainer });
fuzz({ name: "trainer_state as text", kind: "text", corpus: [trainerText], run: readTrainer });

fuzz({
  name: "run.json",
  kind: "json",
  corpus: [text("run.json")],
  run: (input) => {
    const { config: recorded, data, lineage = UNRECORDED } = parseRunRecord(input.text, "run.json");
    for (const { name, options } of [recorded.model, recorded.adapter, ...recorded.metrics])
      if (typeof name !== "string" || typeof options !== "object") throw new Error("a plugin without a name");
    if (!(data.numLabels > 0)) throw new Error(`${data.numLabels} labels`);
    isOnLine({ lineage: UNRECORDED, step: 1 }, lineage);
    trainingOptions.parse(recorded.training, "training");
  },
});

fuzz({
  name: "metrics.jsonl",
  kind: "text",
  corpus: [text("metrics.jsonl")],
  run: (input) => {
    for (const { step, epoch } of parseMetrics(input.text, "metrics.jsonl"))
      if (typeof step !== "number" || typeof epoch !== "number") throw new Error("an entry without step and epoch");
  },
});

fuzz({
  name: "evaluation.json",
  kind: "json",
  corpus: [text("evaluation.json")],
  run: (input) => {
    const { labels, probabilities } = parseEvaluation(asObject(input), "evaluation.json");
    if (labels.length !== probabilities.length) throw new Error("rows without a label");
  },
});

const other = join(root, "other");
mkdirSync(other);
for (const name of [
  "adapter_config.json",
  "adapter_model.safetensors",
  "training_state.json",
  "trainer_state.json",
  "optimizer.safetensors",
  "README.md",
])
  writeFileSync(join(other, name), readFileSync(join(checkpoint, name)));

fuzz({
  name: "manifest.json",
  kind: "json",
  corpus: [text("checkpoint-3/manifest.json")],
  run: async (input) => {
    writeFileSync(join(other, "manifest.json"), input.bytes);
    const manifest = (await readManifest(other))!;
    if (JSON.stringify(manifest) !== JSON.stringify(await readManifest(checkpoint)))
      throw new Error("another manifest was taken");
    await requireWhole(other, manifest);
  },
});

const gpu = metaGpu(NVIDIA);
const specs = [
  { name: "a", shape: [3, 5], initial: () => new Float32Array(15) },
  { name: "b", shape: [7], initial: () => new Float32Array(7) },
];
const parameters = new ParameterSet(gpu, specs);
/** What loads an optimizer's file as a checkpoint has it, and such a file. */
async function optimizerFile(
  plugin: OptimizerPlugin,
): Promise<{ readonly corpus: readonly [Uint8Array]; readonly run: (input: FuzzInput) => Promise<void> }> {
  const optimizer = plugin.create({ gpu, parameters });
  const folder = join(root, `state-${plugin.name}`);
  mkdirSync(folder);
  const path = join(folder, "optimizer.safetensors");
  const tensors = [...(await optimizer.save())].map(
    ([key, { dtype, shape, data }]) => [key, { dtype: dtype.toUpperCase() as "F32", shape, data }] as const,
  );
  await writeSafetensors(path, tensors, { format: "qlora", optimizer: plugin.name, step: "3" });
  return {
    corpus: [readFileSync(path)],
    run: async (input) => {
      writeFileSync(path, input.bytes);
      optimizer.load(await readOptimizerState(folder, { step: 3, optimizer: plugin.name }));
    },
  };
}

fuzz({ name: "optimizer sgd", kind: "safetensors", ...(await optimizerFile(sgd({ momentum: 0.9 }))) });
fuzz({ name: "optimizer adamw8bit", kind: "safetensors", ...(await optimizerFile(adamW8bit())) });

const adapter = await lora({ rank: 2, targetModules: ["q_proj"] }).create({
  linears: [{ name: "model.layers.0.self_attn.q_proj", layer: 0, inFeatures: 4, outFeatures: 4 }],
  head: [{ name: "base_model.model.score.weight", shape: [2, 4] }],
  baseModel: "base",
  seed: 1,
});
const adapterFolder = join(root, "adapter");
mkdirSync(adapterFolder);
const shapes = [
  ...adapter.parameters.map(({ name, shape }) => ({ name, shape })),
  { name: "base_model.model.score.weight", shape: [2, 4] },
];
await writeFiles(
  adapterFolder,
  await adapter.save(
    new Map(shapes.map(({ name, shape }) => [name, new Float32Array(shape.reduce((n, m) => n * m, 1)).fill(0.5)])),
  ),
);

fuzz({
  name: "adapter_model",
  kind: "safetensors",
  corpus: [readFileSync(join(adapterFolder, "adapter_model.safetensors"))],
  run: async (input) => {
    writeFileSync(join(adapterFolder, "adapter_model.safetensors"), input.bytes);
    const values = await loadAdapterTensors(openFolder(adapterFolder), shapes);
    for (const { name, shape } of shapes)
      if (values.get(name)!.length !== shape.reduce((n, m) => n * m, 1)) throw new Error(`${name} of another size`);
    await adapter.load(openFolder(adapterFolder));
  },
});

const names = [
  "training_state.json",
  "trainer_state.json",
  "optimizer.safetensors",
  "adapter_model.safetensors",
  "adapter_config.json",
  "manifest.json",
];

// Whatever file of a checkpoint is damaged however: what resuming, predicting or verifying takes is what was saved.
fuzz({
  name: "checkpoint",
  kind: "bytes",
  inputs: 200,
  corpus: names.map((name) => Buffer.concat([Buffer.from(`${name}\0`), readFileSync(join(checkpoint, name))])),
  run: async ({ bytes }) => {
    const end = bytes.indexOf(0);
    const name = new TextDecoder().decode(bytes.subarray(0, end));
    if (!names.includes(name)) return;
    const path = join(checkpoint, name);
    const saved = readFileSync(path);
    const same = saved.equals(bytes.subarray(end + 1));
    writeFileSync(path, bytes.subarray(end + 1));
    try {
      const { parts } = await verifyRun(run, { repair: false });
      if (!same && parts.find((part) => part.path === checkpoint)!.state === "whole")
        throw new Error(`${name} was called whole`);
      const training = trainingOptions.parse({ outputDir: run, resumeFromCheckpoint: checkpoint });
      const resumed = await resolveResume(training).then(
        () => true,
        (error: unknown) => told(error),
      );
      if (resumed && !same) throw new Error(`${name} was gone on from`);
      const used = name.startsWith("adapter_") || name === "manifest.json";
      const taken = await findAdapter(checkpoint).then(
        () => true,
        (error: unknown) => told(error),
      );
      if (taken && used && !same) throw new Error(`${name} was taken`);
    } finally {
      writeFileSync(path, saved);
    }
  },
});

function told(error: unknown): false {
  if (error instanceof QloraError) return false;
  throw error;
}
