import { formatBytes } from "../../core/util/byte-size.ts";
import { configToJson } from "../../runtime/config/config.ts";
import { purposes } from "../../runtime/planning/format.ts";
import { checkpointedBlocks } from "../../runtime/planning/plan.ts";
import type { PlannedMode, PlanReport } from "../../sdk/plan.ts";
import type { CommandData } from "../command.ts";
import { columns, thousands, writeData, writeJson } from "../output.ts";

interface PlanFlags {
  readonly printConfig: boolean;
  readonly json: boolean;
}

const FAILED = 1;

/** Prints what each mode would take; exit code 1 where the configured one does not fit. */
export async function plan({ services, values, config }: CommandData, flags: PlanFlags): Promise<number> {
  if (flags.printConfig) {
    await writeJson(configToJson(config!));
    return 0;
  }
  const sdk = await services.sdk();
  const report = await sdk.plan(config!, values["plan"] ?? {});
  await (flags.json ? writeJson(report) : writeData(planText(report)));
  return report.modes.some((row) => row.mode === report.chosen && "plan" in row) ? 0 : FAILED;
}

function planText(report: PlanReport): string {
  const { budget, blocks, chosen } = report;
  const head = columns([
    ["device", `${report.device}, tier ${report.tier}`],
    ["budget", budget.bytes === undefined ? budget.source : `${formatBytes(budget.bytes)} (${budget.source})`],
    [
      "work",
      `${blocks} blocks; ${report.samplesPerStep} samples a step, of up to ${thousands(report.longestSample)} tokens`,
    ],
  ]);
  const heading = ["memory", "checkpointed", "dequantized", "token table", "micro-batch", "at rest", "peak", "fits"];
  const rows = report.modes.map((row) => modeRow(row, report));
  const table = columns([heading, ...rows], [false, true, false, false, true, true, true, false]);
  const notes = report.modes.map((row) =>
    "plan" in row
      ? `${row.mode}${row.mode === chosen ? " (chosen)" : ""}: ${row.plan.reason}; at the peak ${purposes(row.plan.figures.atPeak)}\n`
      : `${row.mode}: ${row.problem}. ${row.hint ?? ""}\n`,
  );
  return `${head}\n${table}\n${notes.join("")}`;
}

function modeRow(row: PlannedMode, { blocks, chosen }: PlanReport): string[] {
  const name = row.mode === chosen ? `${row.mode} *` : row.mode;
  if (!("plan" in row)) return [name, "", "", "", "", "", "", "no"];
  const { settings, figures, batchTokens, budget } = row.plan;
  const rest = Object.values(figures.atRest).reduce((sum, bytes) => sum + bytes, 0);
  return [
    name,
    `${checkpointedBlocks(settings.checkpointing, blocks)} of ${blocks}`,
    settings.keepDequantized ? "kept" : "made anew",
    settings.embeddings,
    `${thousands(batchTokens)} tokens`,
    formatBytes(rest),
    formatBytes(figures.peak),
    budget.bytes === undefined ? "unknown" : "yes",
  ];
}
