/** A memory plan in words: for the log, the table, run.json and errors. */
import { DeviceError } from "../../core/errors.ts";
import type { ModelPlacement } from "../../core/plugin/model.ts";
import { formatBytes, formatGib } from "../../core/util/byte-size.ts";
import type { MemoryBudget } from "../device/budget.ts";
import type { Measured, MemorySettings, Workload, UserSettings, MemoryMode, MemoryPlan } from "./settings.ts";

/** What a shortage says of training, and of forward passes alone. */
const TRAINING = {
  describe: describeSettings,
  batchSize: "--per-device-train-batch-size",
  recompute: ["--gradient-checkpointing block"],
  alsoLower: ["the adapter's rank"],
  orElse: ", or leave them to --memory auto",
} as const;
const INFERENCE = {
  describe: describeInference,
  batchSize: "--per-device-eval-batch-size",
  recompute: [],
  alsoLower: [],
  orElse: "",
} as const;

/** The error that names what is short, by how much, and what to lower. */
export function shortage(
  { training }: Workload,
  given: UserSettings,
  budget: MemoryBudget,
  figures: Measured,
  settings: MemorySettings,
): DeviceError {
  const words = training === undefined ? INFERENCE : TRAINING;
  const lower = ["data.maxLength (--max-length)", ...words.alsoLower];
  if (settings.tokenBudget === undefined || given.tokenBudget !== undefined)
    lower.unshift(`${words.batchSize} or --token-budget`);
  const lift = [
    ...(settings.checkpointing === "block" ? [] : words.recompute),
    ...(settings.keepDequantized ? ["--no-model.keep-dequantized"] : []),
    ...(given.placement !== undefined && settings.embeddings === "device" ? ["--model.embeddings host"] : []),
  ];
  const hint = [
    ...(given.resumed === true
      ? ["The run that goes on had these settings; naming another --memory chooses anew."]
      : []),
    ...(lift.length > 0 ? [`Set ${lift.join(", ")}${words.orElse}.`] : []),
    `Lower ${lower.join(" or ")}.`,
  ].join(" ");
  if ("tooLarge" in figures) {
    return new DeviceError("MEMORY_SHORT", `no setting fits this device: ${figures.tooLarge}`, { hint });
  }
  const { peak, atPeak } = figures;
  const limit = budget.bytes ?? 0;
  return new DeviceError(
    "MEMORY_SHORT",
    `GPU memory is short by ${formatBytes(peak - limit)}: with ${words.describe(settings)} a run takes ${formatBytes(peak)} ` +
      `(${purposes(atPeak)}) of ${formatBytes(limit)} (${budget.source})`,
    { hint },
  );
}

/** `weights 5.90 GiB, activations 3.10 GiB`, largest first. */
export function purposes(bytes: Readonly<Record<string, number>>): string {
  return Object.entries(bytes)
    .filter(([, n]) => n >= 2 ** 20)
    .toSorted(([, a], [, b]) => b - a)
    .map(([purpose, n]) => `${purpose} ${formatBytes(n)}`)
    .join(", ");
}

/** Where the weights lie, in a few words. */
export function describePlacement({ embeddings, keepDequantized }: ModelPlacement): string[] {
  return [keepDequantized ? "dequantized weights kept" : "weights packed", `token table on the ${embeddings}`];
}

/** Settings of forward passes alone, in a few words. */
export function describeInference({ tokenBudget, ...placement }: MemorySettings): string {
  const cut = tokenBudget === undefined ? [] : [`batches of ${tokenBudget} tokens`];
  return [...describePlacement(placement), ...cut].join(", ");
}

/** Settings in a few words. */
export function describeSettings(settings: MemorySettings): string {
  const { checkpointing, tokenBudget } = settings;
  return [
    typeof checkpointing === "number"
      ? `the first ${checkpointing} blocks checkpointed`
      : checkpointing === "block"
        ? "every block checkpointed"
        : "no block checkpointed",
    ...describePlacement(settings),
    ...(tokenBudget === undefined ? [] : [`micro-batches of ${tokenBudget} tokens`]),
  ].join(", ");
}

/** Why a plan is what it is. */
export function reasonOf(mode: MemoryMode, given: UserSettings, budget: MemoryBudget): string {
  const settled = [
    ...(given.checkpointing === undefined ? [] : ["gradientCheckpointing"]),
    ...(given.tokenBudget === undefined ? [] : ["tokenBudget"]),
    ...(given.placement?.embeddings === undefined ? [] : ["embeddings"]),
    ...(given.placement?.keepDequantized === undefined ? [] : ["keepDequantized"]),
  ];
  const what = {
    lean: "least memory for micro-batches of this size",
    fast: "nothing computed twice",
    auto: budget.bytes === undefined ? "nothing computed twice" : "the fastest that fits",
  }[mode];
  const by = given.resumed === true ? "as configured or as the run began" : "as configured";
  return settled.length === 0 ? what : `${what}; ${settled.join(", ")} ${by}`;
}

/** The plan as one line. */
export function planLine({ mode, settings, figures, budget, reason }: MemoryPlan): string {
  const room = budget.bytes === undefined ? `; ${budget.source}` : ` of ${formatGib(budget.bytes)}`;
  return `${mode}: ${describeSettings(settings)} (${reason}); at most ${formatGib(figures.peak)}${room}`;
}

/** The plan as run.json keeps it. */
export function planRecord({ mode, settings, figures, budget, reason }: MemoryPlan): Readonly<Record<string, unknown>> {
  return { mode, settings, reason, peakBytes: figures.peak, budgetBytes: budget.bytes ?? null, budget: budget.source };
}
